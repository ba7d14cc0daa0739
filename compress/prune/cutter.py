"""Cutters: what a round of pruning removes, units of all axes by saliency or whole sub-layers by their effect."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from wb import __version__
from wb.compress.depth.drop import DropLayers, Dropped, removed
from wb.compress.nvit.compensate import refitted, step_of
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.nvit import NViT, Pruned
from wb.compress.nvit.settings import Settings
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.stages import Stage
from wb.core.architecture import Architecture
from wb.core.commands.progress import Count
from wb.data import Dataset
from wb.models.model import Model, Step
from wb.training.fit import pick_device
from wb.training.statistics import settled, shown


class Cutter(Protocol):
    """Makes models smaller, round by round."""

    def rounds(self, stage: Stage) -> int:
        """How many rounds lead to a stage."""
        ...

    def rotated(self, model: Model, report: Count) -> Model:
        """The dense model in the form that is cut, which computes the same."""
        ...

    def scored(self, state: Pruned) -> Pruned:
        """`state` with the scores that the next cut is chosen by."""
        ...

    def cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        """A smaller model, for which the cost models predict `aims` (by metric); `final` gives the aims of the last round."""
        ...

    def between(self, state: Pruned, left: int, report: Count) -> Pruned:
        """`state` after what follows a cut when so many rounds are `left`: compensation and training."""
        ...

    def compensated(self, state: Pruned, report: Count) -> Pruned:
        """`state`, at the end of a stage, with what is left fitted to what the dense model did, if that helps."""
        ...

    def signed(self, state: Pruned, stage: Stage) -> Model:
        """The model of `state` with the history step of a stage."""
        ...


def cutter_of(
    config: PruneConfig,
    dense: Model,
    data: Dataset,
    costs: Mapping[str, Cost],
    teacher: Callable[[Tensor], Tensor] | None,
) -> Cutter:
    """The cutter that a configuration names, for the model `dense`."""
    if config.method == "depth":
        return Layers(config.settings, dense, data, costs)
    return Units(config, dense, data, NViT(data, {}, costs, config.settings, teacher))


@dataclass(frozen=True)
class Units:
    """The cutter of `nvit`: units of all axes, by saliency over cost."""

    config: PruneConfig
    dense: Model
    data: Dataset
    pruner: NViT

    def rounds(self, stage: Stage) -> int:
        return stage.rounds

    def scored(self, state: Pruned) -> Pruned:
        return self.pruner.scored(state)

    def cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        return self.pruner.cut(state, aims, final)

    def between(self, state: Pruned, left: int, report: Count) -> Pruned:
        return self.pruner.between(state, self.dense, left, report)

    def rotated(self, model: Model, report: Count) -> Model:
        return self.pruner.rotated(model, report)

    def compensated(self, state: Pruned, report: Count) -> Pruned:
        return self.pruner.compensated(state, self.dense, report)

    def signed(self, state: Pruned, stage: Stage) -> Model:
        model, settings = state.model, self.config.settings
        arguments: dict[str, Any] = {
            "budget": [limit.text() for limit in stage.asked],
            **self.data.origin,
            "distilled": self.config.distill and settings.recovery > 0,
            "dropped": removed(self.dense.architecture, model.architecture),
            **state.did(settings),
            "align": settings.rules(self.dense.architecture).align,
        }
        return model.then(Step(name="prune nvit", arguments=arguments, seed=settings.seed, version=__version__))


@dataclass(frozen=True)
class Layers:
    """The cutter of `depth`: whole sub-layers, by how much the output on the calibration images changes without them.

    One round leads to a stage; each drop writes its own history step, and so does the compensation. What goes next does not
    depend on what is aimed at, so that a landing looks at the drops that it has seen before it makes more.
    """

    settings: Settings
    dense: Model
    data: Dataset
    costs: Mapping[str, Cost]
    seen: dict[str, tuple[list[Dropped], Iterator[Dropped]]] = field(default_factory=dict)  # by the model to cut

    def rounds(self, stage: Stage) -> int:
        return 1

    def scored(self, state: Pruned) -> Pruned:
        return state

    def cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        def enough(architecture: Architecture) -> bool:
            return all(self.costs[metric](architecture) <= aim for metric, aim in aims.items())

        drop = DropLayers(self.data, enough, limit=self.settings.calibration, device=str(pick_device()))
        there, more = self.seen.setdefault(state.model.fingerprint(), ([], drop.steps(state.model)))
        left = drop.first(itertools.chain(there, _kept(more, there)))
        return replace(state, model=left, rounds=state.rounds + 1, refit=None)

    def between(self, state: Pruned, left: int, report: Count) -> Pruned:
        return state

    def rotated(self, model: Model, report: Count) -> Model:
        return settled(model, shown(self.data.train))

    def compensated(self, state: Pruned, report: Count) -> Pruned:
        if not self.settings.compensate:
            return state
        seed = self.settings.seed
        model, refit = refitted(state.model, self.dense, state.kept, self.data, seed=seed, report=report)
        return replace(state, model=model, refit=refit)

    def signed(self, state: Pruned, stage: Stage) -> Model:
        made_up = state.made_up(self.settings)  # an earlier refit has a step of its own
        return state.model.then(step_of(self.data, self.settings.seed)) if made_up else state.model


def _kept(steps: Iterator[Dropped], seen: list[Dropped]) -> Iterator[Dropped]:
    """The rest of `steps`, each added to those that were `seen`."""
    for one in steps:
        seen.append(one)
        yield one
