"""The pass that makes a path ensemble of a trained pre-norm network, and prunes its paths.

Source: Chang et al., "Revisiting Vision Transformer from the View of Path Ensemble", 2023, section 3.2 and 3.3,
https://arxiv.org/abs/2308.06548.
Differs: which paths are cut is found on the trained network. Stage by stage, from the last, as many of its first paths are left
out as the loss on validation images is least without; of equal numbers the least.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import JsonValue

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.records.wirings import Ensemble, Pre
from wb.data import Dataset
from wb.data.batches import batches
from wb.models.model import Model, Step
from wb.models.network import skeleton
from wb.tasks.known import task_of
from wb.tasks.suited import check_fits
from wb.training.fit import pick_device

BATCH = 256


def _silent(_: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class PathEnsemble:
    """The pass: pre-norm stages become path ensembles with all factors one, less the paths without which validation is better."""

    data: Dataset
    report: Callable[[int], None] = _silent  # told the stage

    def __call__(self, model: Model, /) -> Model:
        """The model with the other wiring; where nothing is cut it computes the same.

        Raises:
            BadData: the data have another shape or number of classes.
            BadOption: no stage is pre-norm.
            Unsupported: a network that does not take images.
        """
        check_fits(model.architecture, self.data)
        found = with_cuts(model, ensembled(model.architecture), {})
        wired = {i for i, stage in enumerate(found.architecture.stages) if isinstance(stage.wiring, Ensemble)}
        cuts: dict[int, int] = {}
        for i in sorted(wired, reverse=True):
            self.report(i)
            tried = found.architecture.stages[i].paths
            losses = {cut: self._loss(with_cuts(found, found.architecture, {**cuts, i: cut})) for cut in tried}
            cuts[i] = min(losses, key=lambda cut: losses[cut])
        found = with_cuts(found, found.architecture, cuts)
        cut: dict[str, JsonValue] = {f"s{i}": cuts[i] for i in sorted(cuts)}
        arguments: dict[str, JsonValue] = {**self.data.origin, "wiring": "ensemble", "cut": cut}
        step = Step(name="paths", arguments=arguments, version=__version__)
        return Model(found.architecture, found.weights, (*model.history, step))

    @torch.no_grad()
    def _loss(self, model: Model) -> float:
        """The mean loss on validation images."""
        task, device, split = task_of(model.architecture), pick_device(), self.data.validation
        network, total = model.network(device), 0.0
        for images, labels in batches(split, BATCH, shuffle=False):
            total += task.loss(network(images.to(device)), labels.to(device), reduction="sum").item()
        return total / len(split)


def ensembled(architecture: Architecture) -> Architecture:
    """`architecture` with every pre-norm stage as an ensemble. Raises `BadOption` and `Unsupported` as the pass does."""
    if architecture.input.usual_tokens is not None:
        raise Unsupported(
            "path ensembles are made of networks that take images, and this one takes texts; leave --wiring out"
        )
    if not any(isinstance(stage.wiring, Pre) and len(stage.paths) > 1 for stage in architecture.stages):
        titles = sorted({stage.wiring.title for stage in architecture.stages})
        raise BadOption(
            f"a path ensemble is made of pre-norm stages with blocks, and this network has {', '.join(titles)}"
        )
    stages = tuple(
        stage.model_copy(update={"wiring": Ensemble()})
        if isinstance(stage.wiring, Pre) and len(stage.paths) > 1
        else stage
        for stage in architecture.stages
    )
    return architecture.model_copy(update={"stages": stages})


def with_cuts(model: Model, architecture: Architecture, cuts: dict[int, int]) -> Model:
    """`model` in an `architecture` that has the same blocks, with so many paths cut by stage; factors that it lacks are one."""
    stages = tuple(
        stage.model_copy(update={"wiring": stage.wiring.model_copy(update={"cut": cuts[i]})}) if i in cuts else stage
        for i, stage in enumerate(architecture.stages)
    )
    architecture = architecture.model_copy(update={"stages": stages})
    names = [name for name, _ in skeleton(architecture).named_parameters()]
    weights = {name: model.weights.get(name, torch.ones(())) for name in names}
    return Model(architecture, weights, model.history)
