"""The loop of one worker: it evaluates candidates until all workers together have evaluated as many as asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from wb.core.architecture import Architecture
from wb.core.errors import StorageFailed, reason
from wb.core.measures.metrics import Limit, Metric
from wb.core.space import Choices, Space, canonical
from wb.export.graph import ExportDiffers
from wb.search.crew.crew import Crew
from wb.search.crew.proposing import NothingWaits, Proposer
from wb.search.evaluate import Evaluation
from wb.search.sampler.batched import SpaceExhausted
from wb.search.study.storage import beat, stale_trials
from wb.search.study.trials import OPEN, REPEAT, WORKER, choices_of, network_key, own

ATTEMPTS = 20  # proposals per wanted candidate, at most; Optuna's own samplers repeat themselves
POLL_S = 0.2
PATIENCE_S = 300.0  # for a database server that is started again
FAILURES = (SQLAlchemyError, optuna.exceptions.StorageInternalError)


class _Ended(BaseException):
    """Carries an error past Optuna, which would mark the trial as failed, so that the trial can be taken up again."""


class _Surplus(Exception):
    """Other workers already evaluate all candidates that are still wanted."""


@dataclass
class Optimization:
    """Continues `study` until it has `trials` evaluated candidates, the space is exhausted, or proposals only repeat.

    A repeated network gets the values of its earlier evaluation. Optuna's samplers propose repeats; besides, candidates are
    the same network if they differ only in switched-off last blocks. Trials whose worker died are taken up again first,
    under their own number. Several workers may share a study: no network is evaluated twice, and at most `trials`
    evaluations count. No trial begins once those that are done make it `late`. `report` is called with the number of
    evaluated candidates and the last of them, of any worker. A database on a server that does not answer is waited for. Where
    there are many workers, the `proposer` adds candidates for all of them, if there is one.
    """

    study: optuna.Study
    space: Space
    metrics: Sequence[Metric]
    limits: Sequence[Limit]
    evaluate: Callable[[Architecture], Evaluation]
    trials: int
    report: Callable[[int, FrozenTrial], None]
    crew: Crew
    late: Callable[[Sequence[FrozenTrial]], bool] = lambda _: False
    say: Callable[[str], None] = lambda _: None
    proposer: Proposer | None = None
    _done: int = field(default=0, init=False)
    _exhausted: bool = field(default=False, init=False)
    _keys: dict[int, str] = field(default_factory=dict, init=False)  # number of the trial -> key of its network

    def __call__(self) -> int:
        """Runs the loop; returns the number of evaluated candidates.

        Raises:
            StorageFailed: the database cannot be written; finished evaluations are kept.
        """
        with self.crew.join():
            while True:
                try:
                    return self._run()
                except FAILURES as error:
                    if not self._is_back(error):
                        raise StorageFailed(
                            f"the study could not be written ({reason(error.__cause__ or error)}); free some space or check the "
                            "storage, then continue with --resume: finished evaluations are kept"
                        ) from error

    def _is_back(self, error: Exception) -> bool:
        """Waits for a database that is a server's; returns whether it answers again, and puts this worker's trial back then."""
        storage: Any = self.study._storage  # Optuna's cache has the storage itself behind it
        engine = getattr(storage, "_backend", storage).engine
        away = any(isinstance(each, OperationalError | InterfaceError) for each in (error, error.__cause__))
        if engine.dialect.name == "sqlite" or not away:
            return False
        self.say(f"the storage does not answer ({reason(error.__cause__ or error)}); waiting for it")
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            time.sleep(POLL_S)
            with suppress(*FAILURES):
                engine.dispose()  # of connections that the server has closed
                self._give_back()
                if self.proposer is not None:
                    self.proposer.lease.give_back()
                self.say("the storage answers again")
                return True
        return False

    def _run(self) -> int:
        attempts = ATTEMPTS * self.trials
        while (study := self._turn(attempts > 0 and not self._exhausted)) is not None:
            attempts -= 1
            try:
                study.optimize(self._objective, n_trials=1, catch=(ExportDiffers,))
            except NothingWaits:
                attempts += 1
            except BaseException as error:
                self._give_back()
                _raise(error)
        return self._done

    def _turn(self, more: bool) -> optuna.Study | None:
        """Waits until another candidate is wanted from this worker; returns the study to ask for it.

        None once enough candidates are evaluated, or if `more` is false and no trial is running.
        """
        while True:
            trials = self._reclaimed()
            done = own(trials)
            if len(done) > self._done:
                self._done = len(done)
                self.report(len(done), max(done, key=lambda trial: trial.datetime_complete or datetime.min))
            more = more and not self.late(done)
            running = sum(trial.state == TrialState.RUNNING for trial in trials)
            if len(done) >= self.trials or (not more and not running):
                return None
            if more and len(done) + running < self.trials:
                if self.proposer is None or not self.proposer.serves(running, done):
                    return self.study
                if self.proposer.fill(trials, self.trials):
                    return self.proposer.queue(trials)
                if not running and self.proposer.exhausted:
                    return None
            time.sleep(POLL_S)

    def _objective(self, trial: optuna.Trial) -> list[float]:
        try:
            return self._values(trial)
        except SpaceExhausted:
            self._exhausted = True
            raise
        except ExportDiffers:
            raise
        except BaseException as error:
            raise _Ended from error

    def _values(self, trial: optuna.Trial) -> list[float]:
        trials = self._claim(trial.number)
        whole = trial.params.keys() >= self.space.genes.keys()  # others could see them when `trials` were read
        owner = self._owner(trial)
        proposed = {name: trial.suggest_categorical(name, list(options)) for name, options in self.space.genes.items()}
        choices = canonical(self.space, cast(Choices, proposed))
        key = self._keys[trial.number] = network_key(self.space, choices)
        known = self._twin(trial.number, key, trials if whole else ())
        if known is None:
            result = self.evaluate(self.space.decode(choices))
            self._check_kept(trial, owner)
            known = self._twin(trial.number, key)
        if known is not None:
            trial.set_user_attr(REPEAT, known.number)
            for name in ("readings", "violations"):
                trial.set_user_attr(name, known.user_attrs[name])
            return list(known.values)
        trial.set_user_attr("readings", {name: r.model_dump(mode="json") for name, r in result.readings.items()})
        trial.set_user_attr("violations", [limit.excess(result.readings[limit.metric.name]) for limit in self.limits])
        trial.set_user_attr("seconds", result.seconds)
        return [result.readings[metric.name].value for metric in self.metrics]

    def _claim(self, number: int) -> list[FrozenTrial]:
        """All trials. Raises `_Surplus` if enough trials with lower numbers are evaluated or running.

        No trial with a lower number can appear later; so at most the wanted number is evaluated, however the workers'
        steps interleave.
        """
        trials = self.study.get_trials(deepcopy=False)
        before = [trial for trial in trials if trial.number < number]
        if len(own(before)) + sum(trial.state in OPEN for trial in before) >= self.trials:
            raise _Surplus
        return trials

    def _owner(self, trial: optuna.Trial) -> object:
        return self.study._storage.get_trial(trial._trial_id).user_attrs.get(WORKER)

    def _check_kept(self, trial: optuna.Trial, owner: object) -> None:
        """Raises `_Surplus` if this worker was taken for dead meanwhile, and the trial is no longer its `owner`'s."""
        if self._owner(trial) != owner:
            raise _Surplus

    def _twin(self, number: int, key: str, trials: Sequence[FrozenTrial] = ()) -> FrozenTrial | None:
        """The trial that evaluated the same network, or None; waits for an earlier trial that is still evaluating it.

        `trials` are all, if they have just been read: of many, that costs more than anything else here.
        """
        while True:
            trials = trials or self.study.get_trials(deepcopy=False)
            same = [t for t in trials if t.number != number and self._key(t) == key]
            done = own(same)
            if done or not any(t.state == TrialState.RUNNING and t.number < number for t in same):
                return done[0] if done else None
            time.sleep(POLL_S)
            trials = self._reclaimed()

    def _key(self, trial: FrozenTrial) -> str | None:
        """The key of the trial's network; None as long as its choices are unknown."""
        if trial.number not in self._keys and trial.params.keys() >= self.space.genes.keys():
            self._keys[trial.number] = network_key(self.space, choices_of(self.space, trial))
        return self._keys.get(trial.number)

    def _reclaimed(self) -> list[FrozenTrial]:
        """Puts the trials of dead workers back into the queue, under their own numbers; returns all trials."""
        trials = self.study.get_trials(deepcopy=False)
        if not self._lost(trials):
            return trials
        # Asked again under the lock: another worker may have put back a trial, and may be evaluating it by now.
        with self.crew.reclaiming():
            for trial in self._lost(self.study.get_trials(deepcopy=False)):
                self._put_back(trial)
        return self.study.get_trials(deepcopy=False)

    def _lost(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The running trials whose worker is dead. For workers on other machines, the heartbeats of their trials decide."""
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        far = {trial._trial_id for trial in running if self.crew.elsewhere(trial.user_attrs.get(WORKER))}
        lost = far & stale_trials(self.study) if far else far
        return [
            trial
            for trial in running
            if trial._trial_id in lost or self.crew.is_dead(trial.user_attrs.get(WORKER), trial.datetime_start)
        ]

    def _give_back(self) -> None:
        """Puts the running trials of this worker back into the queue."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(WORKER) == self.crew.name:
                self._put_back(trial)

    def _put_back(self, trial: FrozenTrial) -> None:
        storage = self.study._storage
        beat(self.study, trial)  # with an old heartbeat, its next worker would be taken for dead
        storage.set_trial_user_attr(trial._trial_id, WORKER, "")  # first: the next worker writes its name there
        storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def _raise(error: BaseException) -> None:
    """Raises what ended a trial, unless that only means that the trial is no longer wanted from this worker."""
    if isinstance(error, _Ended):
        carried = cast(BaseException, error.__cause__)
        if not isinstance(carried, _Surplus | optuna.exceptions.UpdateFinishedTrialError):
            raise carried from carried.__cause__
    elif not isinstance(error, ValueError) or "Cannot tell" not in str(error):
        raise error  # Optuna raises the other one for a trial that another worker took for dead
