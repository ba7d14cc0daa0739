"""Two spaces of layers, one large and one of twelve candidates, with costs and gains whose front is known; studies of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from wb.core.space import Choices, Option, canonical
from wb.search.sampler.guided import GuidedSampler

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Layers:
    """Up to eight layers with a width each; a width matters only below the depth."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "depth": (2, 4, 6, 8),
        **{f"{i}.width": (1, 2, 3, 4) for i in range(8)},
    }

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(["depth", *(f"{i}.width" for i in range(int(choices["depth"])))])


class Tiny:
    """3 candidates of depth 1 and 9 of depth 2."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {"depth": (1, 2), "0.width": (1, 2, 3), "1.width": (1, 2, 3)}

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(list(self.genes)[: 1 + int(choices["depth"])])


def cost(choices: Choices) -> float:
    return float(sum(int(choices[f"{i}.width"]) for i in range(int(choices["depth"]))))


def gain(choices: Choices) -> float:
    """Early layers are worth more: the front gives the widths to them first."""
    return sum(int(choices[f"{i}.width"]) * (8 - i) for i in range(int(choices["depth"])))


def both(choices: Choices) -> list[float]:
    return [cost(choices), gain(choices)]


def objective(space: Any, function: Callable[[Choices], Any]) -> Callable[[optuna.Trial], Any]:
    return lambda trial: function(chosen(trial, space))


def chosen(trial: optuna.Trial, space: Any) -> Choices:
    """Every gene, asked for one by one."""
    return {name: cast(Option, trial.suggest_categorical(name, options)) for name, options in space.genes.items()}


def study_of(directions: Sequence[str] = ("minimize", "maximize"), **options: Any) -> optuna.Study:
    options = {"space": Layers(), "seed": 0, **options}
    return optuna.create_study(
        directions=[StudyDirection[d.upper()] for d in directions],
        sampler=GuidedSampler(options.pop("space"), **options),
    )


def evaluated(study: optuna.Study, space: Any = None) -> list[str]:
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    return [str(canonical(space or Layers(), trial.params)) for trial in trials]
