"""Who works on what at present, and how fast all workers of a run were together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial

from wb.core.system.durations import duration
from wb.search.crew.crew import Crew, told
from wb.search.study.trials import WORKER, busy


@dataclass(frozen=True)
class AtWork:
    """Candidate `number` is being evaluated by `who` since `seconds`."""

    number: int
    who: str
    seconds: float

    def text(self) -> str:
        """In a line."""
        return f"candidate {self.number}: {self.who}, for {duration(self.seconds)}"


def at_work(running: Sequence[FrozenTrial], crew: Crew) -> list[AtWork]:
    """What the running trials of workers say that are not known to be dead. The clocks of the machines are taken to agree."""
    now = datetime.now()
    running = [trial for trial in running if not crew.is_dead(trial.user_attrs.get(WORKER), trial.datetime_start)]
    return [
        AtWork(
            trial.number,
            told(trial.user_attrs.get(WORKER)),
            max(0.0, (now - (trial.datetime_start or now)).total_seconds()),
        )
        for trial in running
    ]


@dataclass(frozen=True)
class Pace:
    """Evaluations an hour of all `workers` together, and what their time was lost to, in shares of it.

    `waiting` was for other workers, who timed a network; `beside` was for proposals, for the study, and between evaluations.
    """

    hourly: float
    workers: int
    waiting: float
    beside: float

    def text(self) -> str:
        """In a few words."""
        if self.workers == 1:
            return (
                f"{self.hourly:,.0f} evaluations an hour, {self.beside:.0%} of the time lost to proposals and the study"
            )
        return (
            f"{self.hourly:,.0f} evaluations an hour by {self.workers} workers, {self.waiting:.0%} of their time lost to waiting "
            f"for one another, {self.beside:.0%} to proposals and the study"
        )


def pace_of(trials: Sequence[FrozenTrial]) -> Pace | None:
    """The pace of evaluated trials; None for too few to tell. A worker's time is from its first evaluation to its last."""
    seconds = busy(trials)
    if len(trials) < 2 or not seconds:
        return None
    phases = [trial.user_attrs.get("seconds", {}) for trial in trials]
    evaluating = sum(sum(map(float, one.values())) for one in phases)
    waited = sum(float(one.get("wait", 0.0)) for one in phases)
    whole = max(sum(_spans(trials).values()), evaluating)
    shares = (waited / whole, 1 - evaluating / whole) if whole else (0.0, 0.0)
    return Pace(3600 * len(trials) / seconds, len({trial.user_attrs.get(WORKER) for trial in trials}), *shares)


def _spans(trials: Sequence[FrozenTrial]) -> dict[object, float]:
    """The seconds from each worker's first evaluation to the end of its last."""
    whole: dict[object, tuple[datetime, datetime]] = {}
    for trial in trials:
        if trial.datetime_start and trial.datetime_complete:
            worker = trial.user_attrs.get(WORKER)
            start, end = whole.get(worker, (trial.datetime_start, trial.datetime_complete))
            whole[worker] = (min(start, trial.datetime_start), max(end, trial.datetime_complete))
    return {worker: (end - start).total_seconds() for worker, (start, end) in whole.items()}
