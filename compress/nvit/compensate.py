"""Compensation of a cut: writers to the stream, and then the head, are fitted to what the dense model did.

In order of execution every weight that writes to the residual stream is fitted by ridge regression, from the weight that it has:
on what it reads in the pruned model, towards the dense model's stream minus the pruned one's. So it makes up for its own lost
units and for what went wrong before it. In the end the head is fitted to the dense model's logits. Labels are not looked at.
`refitted` keeps the result only if it is nearer to the dense model on images that it was not fitted to.

Source: `wb.training.refit.correct`. The same least squares, layer by layer, are in Kwon et al., 2022,
https://arxiv.org/abs/2204.09656, and in Kurtic et al., "ZipLM", 2023, https://arxiv.org/abs/2302.04089.
Limits: a sub-layer that is gone is made up for by the next weight that writes; behind the last of them by that one and the head,
where norms are in front of sub-layers, and else by the head; where sub-layers read other sums than the stream (the wiring
`averaged`), by the head alone, and no weight but the head's makes up for what went wrong before it. Convolutions of single
channels, and weights of one or two bits, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from wb import __version__
from wb.compress.nvit.settings import REFITTED_ON
from wb.data import Dataset
from wb.models.axes import Select
from wb.models.model import Model, Step
from wb.models.network import skeleton
from wb.training.fit import pick_device
from wb.training.refit.beside import Report
from wb.training.refit.correct import Correction
from wb.training.refit.joins import unfold
from wb.training.refit.keep import HELD, Refitted, fitted_on, nearer
from wb.training.refit.lane import Lane
from wb.training.refit.trace import network_of
from wb.training.statistics import with_statistics

RIDGE = 1e-3  # strength, relative to the mean variance of what a weight reads


def refitted(
    model: Model,
    dense: Model,
    kept: Mapping[str, Tensor],
    data: Dataset,
    *,
    seed: int = 0,
    report: Report | None = None,
) -> Refitted:
    """`model` compensated, or as it is if that is not nearer to `dense` on training images that are held out."""
    count, order = _fitted_on(data), _order(data, seed)
    found = compensated(model, dense, kept, data, images=count, seed=seed, report=report)
    index = (order[count:] if count < len(order) else order)[:HELD]
    held = data.train.take(index.numpy())
    return nearer(model, found, held, dense.network(pick_device()))


def compensated(
    model: Model,
    dense: Model,
    kept: Mapping[str, Tensor],
    data: Dataset,
    *,
    images: int = REFITTED_ON,
    seed: int = 0,
    report: Report | None = None,
) -> Model:
    """`model`, which was cut out of `dense`, with writers and head fitted on at most so many training images.

    `kept` has, for every residual stream that lost channels (`s0.embed`), the channels of the dense model that are left.
    """
    correction = Correction(
        model,
        [lane_of(dense, model, kept)],
        torch.from_numpy(data.train.inputs(_order(data, seed)[:images].numpy())),  # held by nobody else
        "writers",
        ridge=RIDGE,
        seed=seed,
        report=report,
    )
    fitted = correction()
    del correction  # and the streams
    weights = dict(fitted.weights)
    for at in skeleton(model.architecture).walk():
        unfold(weights, at, model)
    return with_statistics(replace(fitted, weights=weights), data.train)


def step_of(data: Dataset, seed: int) -> Step:
    """The history step of a compensation that stands for itself."""
    arguments = {**data.origin, "images": _fitted_on(data), "ridge": RIDGE}
    return Step(name="compensate", arguments=arguments, seed=seed, version=__version__)


def lane_of(dense: Model, model: Model, kept: Mapping[str, Tensor]) -> Lane:
    """The dense model's pass beside that of `model`.

    What is gone runs with the sub-layer after it; behind the last of a stage with that one, if its norm is in front of it, and
    else by itself.
    """
    network = network_of(dense)
    left = {at.name for at in skeleton(model.architecture).walk()}
    groups: dict[str, list[str]] = {}
    ends: dict[int, list[str]] = {}
    for stage in range(len(network.stages)):
        gone: list[str] = []
        last: list[str] | None = None
        for at in network.walk(stage):
            gone.append(at.name)
            if at.name in left:
                groups[at.name] = last = gone
                gone = []
        if last is not None and network.wiring(stage).folds:
            last += gone
        else:
            ends[stage] = gone
    maps = {axis: Select(index) for axis, index in kept.items()}
    return Lane(1.0, network, maps, {}, groups, ends=ends)


def _order(data: Dataset, seed: int) -> Tensor:
    return torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))


def _fitted_on(data: Dataset) -> int:
    """How many of the training images, in their order, are fitted on."""
    return fitted_on(len(data.train), REFITTED_ON)
