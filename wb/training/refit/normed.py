"""Correction of parts with batch norms: dense convolutions are fitted, norms get what they see, in order of execution.

A convolution and the norm behind it are one linear map with a bias. It is fitted as such, on the fused network's own inputs, and
then written as weights whose norm has the statistics of what they give, so that finding these anew changes nothing.

Source: as `wb.training.refit.correct`; Jordan et al., "REPAIR", 2023, section 3.1, for the statistics.
Limits: filters of single channels stay what they are; their norms restore what these give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.models.axes import Axes
from wb.models.layers.convolution import EPSILON, BatchNormed, Seen
from wb.models.layers.planes import as_tokens
from wb.training.refit.fits import Fit, Outputs
from wb.training.refit.lane import Lane
from wb.training.statistics import found_anew

ROWS = 24_576  # a convolution is fitted on at most so many places


class Parent(NamedTuple):
    """The same part of a parent: its share, its inputs batch by batch, and a map of outputs (rows, ·) to the fused axes."""

    share: float
    part: BatchNormed
    inputs: Sequence[Tensor]
    mapped: Callable[[str, Tensor], Tensor]


Targets = Callable[[int, Tensor], tuple[Outputs, Tensor | float]]
"""What a convolution is fitted to, by batch and places: outputs of the parents (rows, ·), and an offset to their mean."""


def parents_of(there: Sequence[tuple[Lane, nn.Module, Sequence[Tensor]]], axes: Mapping[str, Axes]) -> list[Parent]:
    """The same part of the parents that have it, each with its inputs; `axes` are those of the fused network's parameters."""

    def mapped(lane: Lane) -> Callable[[str, Tensor], Tensor]:
        return lambda name, values: lane.mapped(values, axes[name][:1])

    return [Parent(x.share, own, inputs, mapped(x)) for x, own, inputs in there if isinstance(own, BatchNormed)]


def correct_part(
    part: BatchNormed,
    inputs: Sequence[Tensor],
    parents: Sequence[Parent],
    last: Targets | Literal["parts"] | None,
    fit: Callable[[Tensor, Tensor], Fit] | None,
    generator: torch.Generator,
) -> None:
    """Corrects `part` of the fused network, in place, on its `inputs` (B, ...) by batch.

    `last` is for the convolution that writes the stream: "parts" for what the parents' convolutions give, as for those before it.
    Without `fit` no convolution is fitted; without `last` not the last; without `parents`, which may lack the part,
    not the others.
    """
    norms = list(part.named_norms)
    for name in norms:
        own = last if name == norms[-1] else "parts"
        known = bool(parents) if own == "parts" else own is not None
        if fit is not None and known and _dense(part, name):
            targets = _targets(name, parents, None if isinstance(own, str) else own)
            _fit(part, name, inputs, targets, fit, generator)
        else:
            with found_anew([part], only=[name]):
                for x in inputs:
                    part(x)


def _fit(
    part: BatchNormed,
    name: str,
    inputs: Sequence[Tensor],
    targets: Targets,
    fit: Callable[[Tensor, Tensor], Fit],
    generator: torch.Generator,
) -> None:
    """Fits one convolution and its norm."""
    weight = part.get_parameter(name)
    scale, shift = part.affine(name)
    found = fit(weight.flatten(1) * scale[:, None], shift)
    for i, x in enumerate(inputs):
        seen = part.seen(x, name)
        columns = _columns(seen, weight)
        rows = torch.randperm(len(columns), generator=generator)[: max(1, ROWS // len(inputs))]
        found.add(columns[rows], *targets(i, rows))
    new, bias = found.solve()
    weight.copy_(new.reshape(weight.shape))
    raw = [as_tokens(part.seen(x, name).raw).flatten(0, 1).double() for x in inputs]
    count = sum(map(len, raw))
    mean = torch.stack([y.sum(0) for y in raw]).sum(0) / count
    variance = torch.stack([(y - mean).square().sum(0) for y in raw]).sum(0) / count
    part.statistic(name, "mean").copy_(mean)
    part.statistic(name, "variance").copy_(variance)
    part.statistic(name, "gain").copy_((variance + EPSILON).sqrt())
    part.statistic(name, "shift").copy_(bias + mean)


def _targets(name: str, parents: Sequence[Parent], last: Targets | None) -> Targets:
    """`last`, or what the parents' convolutions of that name give behind their norms."""
    if last is not None:
        return last
    total = sum(parent.share for parent in parents)

    def of(i: int, rows: Tensor) -> tuple[Outputs, float]:
        found = []
        for parent in parents:
            given = as_tokens(parent.part.seen(parent.inputs[i], name).given).flatten(0, 1)[rows]
            found.append((parent.share / total, parent.mapped(name, given)))
        return found, 0.0

    return of


def _dense(part: BatchNormed, name: str) -> bool:
    """Whether there is a convolution in front of that norm that mixes channels: one that reads an axis or a fixed number."""
    weight = part.axes.get(name)
    return weight is not None and (weight[1] is not None or part.get_parameter(name).shape[1] > 1)


def _columns(seen: Seen, weight: Tensor) -> Tensor:
    """What each place of a convolution's output is computed from: (B * places, inputs)."""
    if weight.dim() == 2:
        return as_tokens(seen.x).flatten(0, 1)
    side = weight.shape[-1]
    return F.unfold(seen.x, side, padding=side // 2, stride=seen.stride).transpose(1, 2).flatten(0, 1)
