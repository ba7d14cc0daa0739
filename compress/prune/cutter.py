"""Cutters: what a round of pruning removes, units of all axes by saliency or whole sub-layers by their effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from wb import __version__
from wb.compress.depth.drop import DropLayers, removed
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.nvit import NViT, Pruned
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.stages import Stage
from wb.core.architecture import Architecture
from wb.data import Dataset
from wb.models.model import Model, Step
from wb.training.fit import pick_device


class Cutter(Protocol):
    """Makes models smaller, round by round."""

    def rounds(self, stage: Stage) -> int:
        """How many rounds lead to a stage."""
        ...

    def scored(self, state: Pruned) -> Pruned:
        """`state` with the scores that the next cut is chosen by."""
        ...

    def cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        """A smaller model, for which the cost models predict `aims` (by metric); `final` gives the aims of the last round."""
        ...

    def recovered(self, state: Pruned) -> Pruned:
        """`state` after the recovery steps of training."""
        ...

    def signed(self, model: Model, stage: Stage) -> Model:
        """`model` with the history step of a stage."""
        ...


def cutter_of(
    config: PruneConfig,
    architecture: Architecture,
    data: Dataset,
    costs: Mapping[str, Cost],
    teacher: Callable[[Tensor], Tensor] | None,
) -> Cutter:
    """The cutter that a configuration names; `architecture` is the dense model's."""
    if config.method == "depth":
        return Layers(data, costs, config.settings.calibration)
    return Units(config, architecture, data, NViT(data, {}, costs, config.settings, teacher))


@dataclass(frozen=True)
class Units:
    """The cutter of `nvit`: units of all axes, by saliency over cost."""

    config: PruneConfig
    dense: Architecture
    data: Dataset
    pruner: NViT

    def rounds(self, stage: Stage) -> int:
        return stage.rounds

    def scored(self, state: Pruned) -> Pruned:
        return self.pruner.scored(state)

    def cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        return self.pruner.cut(state, aims, final)

    def recovered(self, state: Pruned) -> Pruned:
        return self.pruner.recovered(state)

    def signed(self, model: Model, stage: Stage) -> Model:
        settings = self.config.settings
        arguments: dict[str, Any] = {
            "budget": [limit.text() for limit in stage.asked],
            **self.data.origin,
            "distilled": self.config.distill and settings.recovery > 0,
            "dropped": removed(self.dense, model.architecture),
            **settings.model_dump(mode="json", exclude={"seed"}),
            "align": settings.rules(self.dense).align,
        }
        return model.then(Step(name="prune nvit", arguments=arguments, seed=settings.seed, version=__version__))


@dataclass(frozen=True)
class Layers:
    """The cutter of `depth`: whole sub-layers, by how much the output on `images` training images changes without them.

    One round leads to a stage, and each drop writes its own history step.
    """

    data: Dataset
    costs: Mapping[str, Cost]
    images: int

    def rounds(self, stage: Stage) -> int:
        return 1

    def scored(self, state: Pruned) -> Pruned:
        return state

    def cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        def enough(architecture: Architecture) -> bool:
            return all(self.costs[metric](architecture) <= aim for metric, aim in aims.items())

        drop = DropLayers(self.data, enough, limit=self.images, device=str(pick_device()))
        return replace(state, model=drop(state.model), rounds=state.rounds + 1)

    def recovered(self, state: Pruned) -> Pruned:
        return state

    def signed(self, model: Model, stage: Stage) -> Model:
        return model
