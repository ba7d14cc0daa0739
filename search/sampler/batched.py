"""What samplers that propose in batches share: claims in the study, a plan that every process reads, no repeats."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from wb.core.errors import BadOption, WbError
from wb.core.space import Choices, Genes, Option
from wb.predictors.features import Encoder, Indices
from wb.search.sampler.proposals import Proposal, initial_rows, unseen_rows

CLAIM = "guided:choices"  # a trial's system attribute: the choices to evaluate, set before its parameters are stored
PLAN = "guided:plan"  # the study's system attribute: the last batch, and how many evaluations it is based on
PLANNED_BY = 4  # workers for each candidate of a batch, at most: planning costs about half a second, whatever its size
PREDICTED, PREDICTED_STD = "predicted", "predicted_std"  # a trial's user attributes


class SpaceExhausted(WbError, optuna.TrialPruned):
    """Every candidate of the space was evaluated or is being evaluated.

    Inside `study.optimize` this error prunes the trial and ends the study quietly; `study.ask` raises it to the caller.
    """


class BatchSampler(BaseSampler):
    """Proposes candidates in batches, each chosen by predictors fitted on all complete trials of the study.

    The first `initial` candidates are spread over the space. The trials of a batch have the predicted values and their standard
    deviations as user attributes `predicted` and `predicted_std`, in the order and unit of the study's objectives; the first
    candidates have none.

    The study holds the whole state, including the last batch: a new sampler on the same storage continues as the old one
    would have, and several processes may share a study. No candidate is proposed twice; candidates that differ only in
    inactive genes are the same. Failed ones are proposed once more when no others are left. Proposals are reproducible for a
    given seed and history.

    Of many `workers` each has a candidate at any time. So there are at least as many spread ones at first, a batch has one for
    every fourth worker at least, and what is being evaluated counts as if it had its predicted values (fantasies), so that a
    batch does not propose its neighbours again.

    Source: Ginsbourger et al., "Kriging is well-suited to parallelize optimization", 2010, for values that are believed until
    they are known.
    Limits: the objective must suggest every gene as a categorical parameter with the options of the space. A batch is
    not revised while it is being evaluated.
    """

    aim = ""
    """What batches are chosen for, if not for the study's objectives; a stored batch of another aim is not adopted."""

    def __init__(
        self,
        space: Genes,
        *,
        seed: int | None = None,
        batch: int = 15,
        initial: int | None = None,
        known: Sequence[Choices] = (),
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        workers: int = 1,
    ) -> None:
        """`initial` defaults to the number of genes, but at least 15 and at most 25. `known` candidates are never proposed.

        `constraints_func` returns the constraints of a finished trial (at most 0 is feasible), as for Optuna's samplers.
        Constraints set with `trial.set_constraint` count as well.

        Raises:
            BadOption: `batch` is below 1 or `initial` below 2.
            NotInSpace: one of `known` is not in the space.
        """
        self._batch = max(batch, workers // PLANNED_BY)
        self._initial = min(max(len(space.genes), 15), 25) if initial is None else initial
        if self._batch < 1 or self._initial < 2:
            raise BadOption(f"expected a batch of at least 1, initial of at least 2; got {batch} and {self._initial}")
        self._spread = max(self._initial, workers)
        self._encoder = Encoder(space)
        self._known = {row.tobytes() for row in self._encoder.indices(known)}
        self._constraints_func = constraints_func
        self._seed = int(np.random.default_rng(seed).integers(2**31))
        self._independent = RandomSampler(seed=self._seed)
        self._queue: list[Proposal] = []
        self._queued: tuple[Study | None, int] = (None, 0)  # the queue's study, and how many evaluations it is based on
        self._rows: dict[tuple[Option, ...], Indices] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_queue": [], "_queued": (None, 0)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every gene as a categorical; empty for a trial with given (`study.enqueue_trial`) or stored parameters."""
        if any(self._whole(source) for source in (trial.system_attrs.get("fixed_params"), trial.params)):
            return {}
        return {
            name: CategoricalDistribution(options)
            for name, options in zip(self._encoder.names, self._encoder.options, strict=True)
        }

    def batch(self, study: Study, least: int = 1) -> list[FrozenTrial]:
        """The next batch as trials that can be added to the study, where any worker takes them up; none if all are taken.

        It has at least so many candidates, as far as there are that many.

        The candidates that wait in the study count as taken, and as being evaluated.
        """
        with self._lock:
            trials = study.get_trials(deepcopy=False)
            complete = [trial for trial in trials if self._usable(trial) and self._row(trial) is not None]
            taken = self._taken(trials).keys()
            found = self._plan(study, complete, self._pending(trials), taken, max(least, self._batch))
            again = None if found else self._failed_once(trials)
            return [self._waiting(proposal) for proposal in found or ([] if again is None else [Proposal(again)])]

    def untaken(self, trials: Sequence[FrozenTrial], batch: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of a batch that no worker has claimed since it was planned; `trials` are the study's, and may have failed."""
        taken = self._taken([trial for trial in trials if trial.state != TrialState.FAIL])
        return [trial for trial in batch if (row := self._row(trial)) is not None and row.tobytes() not in taken]

    def begins(self, complete: int) -> bool:
        """Whether so few trials are complete that candidates are spread or random, as no predictors can be fitted."""
        return complete < self._initial

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the next candidate.

        Raises:
            SpaceExhausted: every candidate is taken.
            NotInSpace: the study has trials of another space.
        """
        if not search_space:
            return {}
        claimed = trial.system_attrs.get(CLAIM)
        if claimed is not None and self._whole(claimed):  # a worker died before it stored the parameters
            return dict(claimed)
        with self._lock:
            return dict(self._encoder.choices(self._claim(study, trial).row))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw for a parameter that is not a gene of the space."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Stores the constraints of a complete trial under the system attribute that Optuna reads."""
        if self._constraints_func is not None and state == TrialState.COMPLETE:
            constraints = tuple(float(value) for value in self._constraints_func(trial))
            study._storage.set_trial_system_attr(trial._trial_id, "constraints", constraints)

    def _claim(self, study: Study, trial: FrozenTrial) -> Proposal:
        """The next proposal, claimed for `trial` in the storage, so that no other worker evaluates it."""
        while True:
            trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
            taken = self._taken(trials)
            proposal = self._next(study, trials, taken.keys())
            if proposal is not None and proposal.mean:  # before the claim: a claimed trial has all its attributes
                study._storage.set_trial_user_attr(trial._trial_id, PREDICTED, proposal.mean)
                study._storage.set_trial_user_attr(trial._trial_id, PREDICTED_STD, proposal.std)
            choices = {} if proposal is None else self._encoder.choices(proposal.row)
            study._storage.set_trial_system_attr(trial._trial_id, CLAIM, choices)
            if proposal is None:
                with suppress(RuntimeError):  # `stop` raises it outside `study.optimize`
                    study.stop()
                raise SpaceExhausted(f"all {len(taken)} candidates of the space are taken; there is nothing to propose")
            # Another worker may have claimed the same candidate in the meantime; then both choose another one.
            others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
            key = proposal.row.tobytes()
            if self._taken(others)[key] == taken[key]:
                return proposal

    def _next(self, study: Study, trials: Sequence[FrozenTrial], taken: AbstractSet[bytes]) -> Proposal | None:
        """The first untaken proposal of the queue, which is planned anew when used up or outdated; None if all are taken."""
        complete = [trial for trial in trials if self._usable(trial) and self._row(trial) is not None]
        if self._queued[0] is not study:
            self._queue, self._queued = [], (study, -1)
        self._drop(len(complete), taken)
        if not self._queue:
            self._adopt(study)  # another process may have planned a batch
            self._drop(len(complete), taken)
        if not self._queue:
            self._queue = self._plan(study, complete, self._pending(trials), taken, self._batch)
            self._queued = (study, len(complete))
            self._publish(study, len(complete))
        if self._queue:
            return self._queue.pop(0)
        again = self._failed_once(trials)
        return None if again is None else Proposal(again)

    def _drop(self, complete: int, taken: AbstractSet[bytes]) -> None:
        """Removes taken proposals from the queue, and all proposals if the queue is outdated."""
        size = self._queued[1]
        if complete - size >= self._batch or size < self._initial <= complete:
            self._queue = []
        self._queue = [proposal for proposal in self._queue if proposal.row.tobytes() not in taken]

    def _publish(self, study: Study, complete: int) -> None:
        plan: dict[str, Any] = {
            "evaluations": complete,
            "batch": [[p.row.tolist(), p.mean, p.std] for p in self._queue],
        }
        plan |= {"aim": self.aim} if self.aim else {}
        study._storage.set_study_system_attr(study._study_id, PLAN, plan)

    def _adopt(self, study: Study) -> None:
        """Replaces the queue by the plan stored in the study, if that is more recent and has the same aim."""
        stored = study._storage.get_study_system_attrs(study._study_id).get(PLAN)
        try:
            size, batch, aim = int(stored["evaluations"]), stored["batch"], stored.get("aim", "")  # type: ignore[index, union-attr]
            if size > self._queued[1] and aim == self.aim:
                self._queue = [self._proposal(*each) for each in batch]
                self._queued = (study, size)
        except (TypeError, KeyError, ValueError, AttributeError):  # no stored plan, or a damaged one: plan anew
            self._queue = []

    def _proposal(self, row: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Proposal:
        """A proposal from its stored form. Raises `ValueError` or `TypeError` if `row` is not a row of the space."""
        found = np.array(row, dtype=np.int64)
        if found.shape != self._encoder.sizes.shape or (found < 0).any() or (found >= self._encoder.sizes).any():
            raise ValueError("no row of the space")
        return Proposal(self._encoder.canonical(found[None])[0], list(map(float, mean)), list(map(float, std)))

    def _plan(
        self, study: Study, complete: Sequence[FrozenTrial], pending: Indices, taken: AbstractSet[bytes], count: int
    ) -> list[Proposal]:
        """Untaken proposals: initial candidates, then batches from the predictors; random ones if there are none of these."""
        rng = np.random.default_rng([self._seed, len(complete)])
        proposals: list[Proposal] = []
        if len(complete) < self._initial:
            # Seeded independently of the number of evaluations, so that a continued study continues the same list.
            first = self._first(np.random.default_rng(self._seed))
            proposals = [Proposal(row) for row in first if row.tobytes() not in taken]
        else:
            proposals = self._predicted(study, complete, pending, taken, count, rng)
        return proposals or [Proposal(row) for row in unseen_rows(self._encoder, taken, count, rng)]

    def _usable(self, trial: FrozenTrial) -> bool:
        """Whether predictors can be fitted on the trial: it is complete, with finite values."""
        return trial.state == TrialState.COMPLETE and bool(np.isfinite(trial.values).all())

    @abstractmethod
    def _predicted(
        self,
        study: Study,
        complete: Sequence[FrozenTrial],
        pending: Indices,
        taken: AbstractSet[bytes],
        count: int,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """Up to `count` proposals from predictors fitted on all complete trials.

        The rows of `pending` (n, genes) are being evaluated.
        """

    def _first(self, rng: np.random.Generator) -> Indices:
        """The first candidates, as canonical rows."""
        return initial_rows(self._encoder, self._spread, rng)

    def _pending(self, trials: Sequence[FrozenTrial]) -> Indices:
        """The rows that other workers are evaluating, or will be, (n, genes)."""
        rows = [self._row(trial) for trial in trials if not trial.state.is_finished()]
        return np.array([row for row in rows if row is not None], dtype=np.int64).reshape(-1, len(self._encoder.sizes))

    def _failed_once(self, trials: Sequence[FrozenTrial]) -> Indices | None:
        """The row of a failed trial that no other trial has tried: the worker may have been killed."""
        last = Counter(row.tobytes() for trial in trials if (row := self._row(trial)) is not None)
        for trial in trials:
            row = self._row(trial)
            if trial.state == TrialState.FAIL and row is not None and last[row.tobytes()] == 1:
                return row
        return None

    def _taken(self, trials: Sequence[FrozenTrial]) -> Counter[bytes]:
        """Row -> how many trials evaluated or are evaluating it; `known` rows count as one more."""
        rows = (self._row(trial) for trial in trials)
        return Counter(self._known) + Counter(row.tobytes() for row in rows if row is not None)

    def _waiting(self, proposal: Proposal) -> FrozenTrial:
        """A trial that has all its parameters already, so that its worker writes none of them."""
        choices = self._encoder.choices(proposal.row)
        options = dict(zip(self._encoder.names, self._encoder.options, strict=True))
        told = {PREDICTED: proposal.mean, PREDICTED_STD: proposal.std} if proposal.mean else {}
        distributions: dict[str, BaseDistribution] = {n: CategoricalDistribution(options[n]) for n in choices}
        return create_trial(
            state=TrialState.WAITING, params=dict(choices), distributions=distributions, user_attrs=told
        )

    def _whole(self, choices: object) -> bool:
        """Whether `choices` has a value for every gene."""
        return isinstance(choices, dict) and set(self._encoder.names) <= choices.keys()

    def _row(self, trial: FrozenTrial) -> Indices | None:
        """The canonical row that a trial evaluates; None as long as its choices are unknown."""
        names = self._encoder.names
        sources = (trial.params, trial.system_attrs.get("fixed_params"), trial.system_attrs.get(CLAIM))
        choices: Choices | None = next((source for source in sources if self._whole(source)), None)
        if choices is None:
            return None
        key = tuple(choices[name] for name in names)
        if key not in self._rows:
            self._rows[key] = self._encoder.indices([dict(zip(names, key, strict=True))])[0]
        return self._rows[key]
