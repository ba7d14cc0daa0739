"""The right to do something for all workers of a study, which one of them has at a time: a lease in the storage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState, create_trial

from wb.search.crew.crew import Crew
from wb.search.study.storage import beat, stale_trials
from wb.search.study.trials import WORKER

OVERDUE_S = 600.0  # for holders elsewhere: one may have died before its heart beat once


class Lease:
    """The right called `name`. Its terms are trials of a study of their own beside `study`; the lowest running one has it.

    A term is over when its trial is complete, with the seconds that it took as value. It is taken over from a worker whose lock
    is free, or whose heartbeat stops if it is elsewhere; its trial has failed then.

    Limits: whoever is taken for dead and is not finds out nothing. So what is done under a lease must be harmless if two do it.
    """

    def __init__(self, study: optuna.Study, crew: Crew, name: str) -> None:
        self._crew, self._name = crew, f"{study.study_name}:{name}"
        self._storage: Any = study._storage
        self._terms: optuna.Study | None = None
        self._seen: dict[int, float] = {}  # terms of holders elsewhere, and when this worker first saw them

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Tries to get the lease; within the block it is this worker's if that is true."""
        term = self._take()
        if term is None:
            yield False
            return
        begun = datetime.now()
        state, values = TrialState.FAIL, None
        try:
            with get_heartbeat_thread(term, self._storage):
                yield True
            state, values = TrialState.COMPLETE, [(datetime.now() - begun).total_seconds()]
        finally:
            self._end(term, state, values)

    def give_back(self) -> None:
        """Ends a term of this worker that it could not end when it should have, as the storage was away."""
        for term in self._running():
            if term.user_attrs.get(WORKER) == self._crew.name:
                self._end(term._trial_id, TrialState.FAIL)

    def terms(self) -> list[FrozenTrial]:
        """All terms so far, in order."""
        return self._study.get_trials(deepcopy=False)

    @property
    def _study(self) -> optuna.Study:
        if self._terms is None:
            self._terms = optuna.create_study(storage=self._storage, study_name=self._name, load_if_exists=True)
        return self._terms

    def _take(self) -> int | None:
        """The trial of a new term; None if another worker has the lease.

        Two workers may begin a term at the same time. No term with a lower number can appear later, so that the higher one
        gives way, however their steps interleave.
        """
        running = self._running()
        lost = self._lost(running)
        for term in lost:
            self._end(term._trial_id, TrialState.FAIL)
        if len(lost) < len(running):
            return None
        own = create_trial(state=TrialState.RUNNING, user_attrs={WORKER: self._crew.name})
        term_id = int(self._storage.create_new_trial(self._study._study_id, own))
        term = self._storage.get_trial(term_id)
        beat(self._study, term)
        if any(other.number < term.number for other in self._running()):
            self._end(term_id, TrialState.FAIL)
            return None
        return term_id

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _lost(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The terms whose worker is dead.

        Clocks and time zones of machines differ, so that this worker's own clock says how long it has seen a term.
        """
        far = [term for term in running if self._crew.elsewhere(term.user_attrs.get(WORKER))]
        stale = stale_trials(self._study) if far else set()
        now = time.monotonic()
        self._seen = {term._trial_id: self._seen.get(term._trial_id, now) for term in far}
        lost = [term for term in far if term._trial_id in stale or now - self._seen[term._trial_id] > OVERDUE_S]
        near = [term for term in running if term not in far]
        return lost + [t for t in near if self._crew.is_dead(t.user_attrs.get(WORKER), t.datetime_start)]

    def _end(self, term: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with suppress(
            UpdateFinishedTrialError
        ):  # another worker took this one for dead, or ended the dead one's before
            self._storage.set_trial_state_values(term, state, values)
