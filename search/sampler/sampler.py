"""The samplers by name. Their draws depend only on the seed and the trial's number, and each trial records its worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from wb.core.measures.metrics import Limit
from wb.core.measures.requirements import Asked
from wb.core.space import Genes, Space
from wb.search.beginning.config import SamplerName
from wb.search.sampler.batched import BatchSampler
from wb.search.sampler.generate import GenerateSampler
from wb.search.sampler.guided import GuidedSampler
from wb.search.study.trials import WORKER, values_of, violations

POPULATION = 25


def make_sampler(
    name: SamplerName,
    space: Space,
    limits: Sequence[Limit],
    seed: int,
    worker: str = "",
    asked: Asked | None = None,
    workers: int = 1,
) -> Signing:
    """The sampler called `name`; all except `random` rank candidates over a budget, or without what is asked, below all others.

    It has no state besides the study, so a continued study gets the same proposals as an uninterrupted one. The name of the
    `worker` is stored in every trial that it proposes; `workers` is how many there are.
    """
    asked = asked or Asked(())

    def missed(trial: FrozenTrial) -> Sequence[float]:
        values = values_of(trial) if asked.requirements else {}
        return [*violations(trial), *(one.violation(values[one.metric.name]) for one in asked.requirements)]

    constraints = missed if limits or asked.requirements else None
    if name == "generate":
        wanted = asked.within(limits)
        generate = GenerateSampler(
            space, wanted, values_of, seed=seed, constraints_func=constraints, workers=workers, inherited=True
        )
        return Signing(space, lambda _: generate, worker, generate)
    if name == "guided":
        guided = GuidedSampler(space, seed=seed, constraints_func=constraints, workers=workers)
        return Signing(space, lambda _: guided, worker, guided)

    def of(number: int) -> BaseSampler:
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        if name == "nsga2":
            return NSGAIISampler(seed=own, population_size=POPULATION, constraints_func=constraints)
        if name == "tpe":
            return TPESampler(seed=own, multivariate=True, constraints_func=constraints)
        return RandomSampler(seed=own)

    return Signing(space, of, worker)


class Signing(BaseSampler):
    """Delegates each trial to the sampler `of(trial number)`, and stores the worker's name in the trial.

    All genes of a trial are sampled together before any is stored, so that a trial that was interrupted in between gets the
    same genes when it is continued. `batched` is the sampler if it is one that can propose for other workers too.
    """

    def __init__(
        self, space: Genes, of: Callable[[int], BaseSampler], worker: str, batched: BatchSampler | None = None
    ) -> None:
        self._of, self._worker, self.batched = of, worker, batched
        self._genes: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(options) for name, options in space.genes.items()
        }

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        study._storage.set_trial_user_attr(trial._trial_id, WORKER, self._worker)
        self._of(trial.number).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if trial.params.keys() >= self._genes.keys() else self._genes

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        sampler = self._of(trial.number)
        space = sampler.infer_relative_search_space(study, trial)
        found = sampler.sample_relative(study, trial, space)
        for name, distribution in search_space.items():
            if name not in found:
                found[name] = sampler.sample_independent(study, trial, name, distribution)
        return found

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial.number).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._of(trial.number).after_trial(study, trial, state, values)
