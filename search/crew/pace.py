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
    """Evaluations an hour of all `workers` together, and the share of their time in which they waited to time a network."""

    hourly: float
    workers: int
    waiting: float

    def text(self) -> str:
        """In a few words."""
        together = "" if self.workers == 1 else f" by {self.workers} workers"
        lost = f", {self.waiting:.0%} of their time lost to waiting for one another" if self.workers > 1 else ""
        return f"{self.hourly:,.0f} evaluations an hour{together}{lost}"


def pace_of(trials: Sequence[FrozenTrial]) -> Pace | None:
    """The pace of evaluated trials; None for too few to tell."""
    seconds = busy(trials)
    if len(trials) < 2 or not seconds:
        return None
    phases = [trial.user_attrs.get("seconds", {}) for trial in trials]
    whole = sum(sum(map(float, one.values())) for one in phases)
    waited = sum(float(one.get("wait", 0.0)) for one in phases)
    workers = {trial.user_attrs.get(WORKER) for trial in trials}
    return Pace(3600 * len(trials) / seconds, len(workers), waited / whole if whole else 0.0)
