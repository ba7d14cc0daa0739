"""One worker at a time proposes for all, where there are many: it adds candidates to the study, and all take them from there.

Each worker that proposes for itself fits the same predictors as the others. Of many, the one that finds few candidates waiting
plans the next batch, under a lease that another takes over if it dies. Candidates are trials as soon as they are added, so that
what a dead proposer has added is evaluated, and what it has not is planned anew.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from statistics import median

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from wb.search.crew.crew import Crew
from wb.search.crew.lease import Lease
from wb.search.sampler.batched import PLANNED_BY, BatchSampler
from wb.search.study.trials import own

LAST = 20  # evaluations, whose times tell how fast candidates are taken
ADDING_S = 0.04  # seconds of the processor for adding a candidate to PostgreSQL (docs/results.md, `crew_scale`)
EACH = 16  # workers up to which each proposes for itself
PROPOSER = "proposer"  # the name of the lease


class NothingWaits(Exception):
    """Other workers have taken all candidates that waited."""


class Queue(optuna.Study):
    """A study that is asked only for candidates that waited in it when it was last looked at: reading them costs a while."""

    waiting: Sequence[FrozenTrial] = ()

    def ask(self, fixed_distributions: Mapping[str, BaseDistribution] | None = None) -> optuna.Trial:
        """Any that waits: if all workers tried the first one, all but one would have to try again.

        Raises:
            NothingWaits: there is none.
        """
        for trial in random.sample(self.waiting, len(self.waiting)):
            with suppress(UpdateFinishedTrialError):
                if self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    return optuna.Trial(self, trial._trial_id)
        raise NothingWaits


@dataclass
class Proposer:
    """Has `sampler` propose for all workers of `study`, once there are more than `EACH`; `workers` is how many are known of."""

    study: optuna.Study
    sampler: BatchSampler
    crew: Crew
    workers: int
    planning: float = field(default=0.5, init=False)
    """Seconds that this worker last took for a batch, or a guess."""
    exhausted: bool = field(default=False, init=False)
    """Whether there was nothing left to propose when this worker last planned."""

    def serves(self, running: int, done: Sequence[FrozenTrial]) -> bool:
        """Whether one worker proposes for all while `running` candidates are evaluated by others, and those are `done`.

        It would keep them waiting if their evaluations were so short that it cannot add candidates as fast.
        """
        workers = max(self.workers, running + 1)
        return workers > EACH and workers * ADDING_S <= _seconds(done)

    def queue(self, trials: Sequence[FrozenTrial]) -> Queue:
        """What workers take their candidates from; they look again for those that were added after `trials` were read."""
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        self._queue.waiting = waiting or self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return self._queue

    @cached_property
    def _queue(self) -> Queue:
        return Queue(self.study.study_name, self.study._storage, self.study.sampler)

    @cached_property
    def lease(self) -> Lease:
        """The right to propose."""
        return Lease(self.study, self.crew, PROPOSER)

    def fill(self, trials: Sequence[FrozenTrial], wanted: int) -> bool:
        """Adds a batch if few of `trials` wait and nobody else is at it; returns whether a candidate waits then.

        `wanted` are to be evaluated in the end, so that never more wait than that takes.
        """
        waiting = _waiting(trials)
        if self._lacks(trials, wanted):
            with self.lease.held() as mine:
                if mine:
                    waiting = self._add(wanted)
        return waiting > 0

    def _lacks(self, trials: Sequence[FrozenTrial], wanted: int) -> bool:
        """Whether a batch is to be added now."""
        return not self.exhausted and _waiting(trials) < self.ahead(trials) and _room(trials, wanted) > 0

    def ahead(self, trials: Sequence[FrozenTrial]) -> int:
        """How many candidates are to wait; nothing is proposed ahead before predictors can be fitted: it would be random."""
        done = own(trials)
        return 1 if self.sampler.begins(len(done)) else self.needed(done)

    def needed(self, done: Sequence[FrozenTrial]) -> int:
        """How many candidates the workers take while the next batch is planned, which are to wait for them.

        A quarter of the workers at least, and not more than all of them: what is proposed too early knows too little.
        """
        seconds = _seconds(done)
        taken = self.workers if seconds <= 0 else math.ceil(self.workers * self.planning / seconds)
        return max(1, self.workers // PLANNED_BY, min(taken, self.workers))

    def _add(self, wanted: int) -> int:
        """Plans a batch, if another worker has not just done so, and adds what is still wanted of it; returns how many wait."""
        trials = self.study.get_trials(deepcopy=False)
        if not self._lacks(trials, wanted):
            return _waiting(trials)
        begun = time.monotonic()
        batch = self.sampler.batch(self.study, self.ahead(trials))
        self.exhausted = not batch
        trials = self.study.get_trials(deepcopy=False)  # again: others went on meanwhile
        added = self.sampler.untaken(trials, batch)[: _room(trials, wanted)]
        for trial in added:
            self.study._storage.create_new_trial(self.study._study_id, trial)
        self.planning = time.monotonic() - begun
        return _waiting(trials) + len(added)


def _seconds(done: Sequence[FrozenTrial]) -> float:
    """What the last evaluations took, in the median; for ever before the first."""
    last = sorted(done, key=lambda trial: trial.datetime_complete or datetime.min)[-LAST:]
    times = [trial.duration.total_seconds() for trial in last if trial.duration is not None]
    return median(times) if times else math.inf


def _waiting(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state == TrialState.WAITING for trial in trials)


def _room(trials: Sequence[FrozenTrial], wanted: int) -> int:
    """How many candidates may be added."""
    return max(0, wanted - len(own(trials)) - sum(not trial.state.is_finished() for trial in trials))
