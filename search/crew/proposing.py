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
EACH = 16  # workers up to which each proposes for itself
PROPOSER = "proposer"  # the name of the lease


class NothingWaits(Exception):
    """Other workers have taken all candidates that waited."""


class Queue(optuna.Study):
    """A study that is asked only for candidates that wait in it."""

    def ask(self, fixed_distributions: Mapping[str, BaseDistribution] | None = None) -> optuna.Trial:
        """Any that waits: if all workers tried the first one, all but one would have to try again.

        Raises:
            NothingWaits: there is none.
        """
        waiting = self.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        for trial in random.sample(waiting, len(waiting)):
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

    def serves(self, running: int) -> bool:
        """Whether one worker proposes for all while `running` candidates are evaluated by others."""
        return max(self.workers, running + 1) > EACH

    @cached_property
    def queue(self) -> Queue:
        """What workers take their candidates from."""
        return Queue(self.study.study_name, self.study._storage, self.study.sampler)

    @cached_property
    def lease(self) -> Lease:
        """The right to propose."""
        return Lease(self.study, self.crew, PROPOSER)

    def fill(self, trials: Sequence[FrozenTrial], wanted: int) -> bool:
        """Adds a batch if few of `trials` wait and nobody else is at it; returns whether a candidate waits then.

        `wanted` are to be evaluated in the end, so that never more wait than that takes.
        """
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        done = own(trials)
        # Nothing is proposed ahead before predictors can be fitted: it would be random.
        ahead = 1 if self.sampler.begins(len(done)) else self.needed(done)
        if waiting < ahead and _room(trials, wanted) and not self.exhausted:
            with self.lease.held() as mine:
                if mine:
                    waiting += self._add(ahead, wanted)
        return waiting > 0

    def needed(self, done: Sequence[FrozenTrial]) -> int:
        """How many candidates the workers take while the next batch is planned, which are to wait for them.

        A quarter of the workers at least, and not more than all of them: what is proposed too early knows too little.
        """
        last = sorted((t for t in done if t.datetime_complete is not None), key=lambda t: str(t.datetime_complete))[
            -LAST:
        ]
        seconds = median(t.duration.total_seconds() for t in last if t.duration is not None) if last else math.inf
        taken = self.workers if seconds <= 0 else math.ceil(self.workers * self.planning / seconds)
        return max(1, self.workers // PLANNED_BY, min(taken, self.workers))

    def _add(self, least: int, wanted: int) -> int:
        """Plans a batch and adds what is still wanted of it; returns how many."""
        begun = time.monotonic()
        batch = self.sampler.batch(self.study, least)
        self.exhausted = not batch
        trials = self.study.get_trials(deepcopy=False)  # again: others went on meanwhile
        added = self.sampler.untaken(trials, batch)[: _room(trials, wanted)]
        for trial in added:
            self.study._storage.create_new_trial(self.study._study_id, trial)
        self.planning = time.monotonic() - begun
        return len(added)


def _room(trials: Sequence[FrozenTrial], wanted: int) -> int:
    """How many candidates may be added."""
    return max(0, wanted - len(own(trials)) - sum(not trial.state.is_finished() for trial in trials))
