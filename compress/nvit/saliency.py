"""Saliency: how much the loss depends on every unit of a network, on one scale for all axes.

A *gate* is a factor g = 1 on a unit: a head, a channel of queries and keys or of values, a hidden unit, a residual
channel, a whole sub-layer. No gate has to be inserted, as its derivative is a sum of weight times gradient over the readers:

    dL/dg_s = sum over the readers' entries of s of  w * dL/dw

Queries and keys meet in a product that no weight reads. Their two writers carry the gate, each the whole of it, so each
counts half. A sub-layer's gate multiplies its contribution to the stream. In a post-norm network the norm is removed with
the sub-layer; there the gate interpolates between the stream before the sub-layer and the output of its norm.

Source: Yang et al., "Global Vision Transformer Pruning with Hessian-Aware Saliency" (NViT), 2023, eq. 5-6, after Molchanov et
al., "Importance Estimation for Neural Network Pruning", 2019: the saliency of S is (dL/dg_S)^2, per mini-batch, averaged.
That is the Fisher form w'gg'w of the group at the granularity of a batch ("gate-Fisher"), not a true Hessian.
Differs: sums are not divided by constants of an implementation; only readers are summed, so that a gate counts once; the
channels of each head are ranked on their own, because a head's channels can be permuted freely.
Limits: `embed` is gated where it is read; the norms, whose statistics change when a channel is removed, are left out. A
Legendre memory's `memory` axis is not scored, because its coefficients cannot be chosen freely. The `bits` and `anchors` of
hash functions are not scored either, because no gradient reaches them. Hash attention has one projection for `qk`, so only
half of that gate is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wb.compress.nvit.settings import METHODS, Method
from wb.core.architecture import axis_dims, kind_of_axis
from wb.core.errors import BadData, BadOption
from wb.core.records import Dim, dims
from wb.models.axes import Axes, nested
from wb.models.named import axes_of
from wb.models.network import Network
from wb.models.walk import State, Sublayer
from wb.tasks.known import task_of

MICRO_TOKENS = 1024  # go through the network at once
LABEL_SMOOTHING = 0.1  # as in training: a saturated loss has no gradient to tell units apart

Scores = dict[str, Tensor]  # axis -> (size,), or (heads, size) where each head chooses; sub-layer -> ()
Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, channels, height, width), labels (B,)


@dataclass(frozen=True)
class Gates:
    """Which parameters carry the gate of each axis, and on which of their dimensions the units lie.

    `carriers[axis]` lists (parameter, dimensions, share). The derivative of the gates is the sum over them of `share` times
    weight times gradient, summed over all other dimensions.
    """

    carriers: Mapping[str, tuple[tuple[str, tuple[int, ...], float], ...]]

    @staticmethod
    def of(axes: Mapping[str, Axes], dims: Mapping[str, Dim], keep: Collection[str] = ()) -> Gates:
        """The gates of a network with parameters on `axes`; `dims` describes the axes, kinds in `keep` get no gates."""
        inside = nested(axes, dims)
        gated = {axis for axis, dim in dims.items() if dim.scored and kind_of_axis(axis) not in keep}
        writers: dict[str, list[tuple[str, tuple[int, ...], float]]] = {}
        readers: dict[str, list[tuple[str, tuple[int, ...], float]]] = {}
        for name, dimensions in axes.items():
            names = [axis.name if axis else None for axis in dimensions]
            for dim, axis in enumerate(dimensions):
                if axis is None or axis.name not in gated:
                    continue
                outer = inside.get(axis.name)
                place = (dim,) if outer is None else (names.index(outer), dim)
                kind = readers if axis.role == "read" else writers
                kind.setdefault(axis.name, []).append((name, place, 1.0))
        halves = {axis: [(name, place, 0.5) for name, place, _ in found] for axis, found in writers.items()}
        return Gates({axis: tuple(readers.get(axis, found)) for axis, found in halves.items()})

    def sums(self, values: Mapping[str, Tensor]) -> Scores:
        """`values` by parameter name, summed to one number per unit of every axis."""
        result: Scores = {}
        for axis, carriers in self.carriers.items():
            parts = [share * _sum_to(values[name], place) for name, place, share in carriers if name in values]
            if parts:
                result[axis] = torch.stack(parts).sum(dim=0)
        return result


def score(
    network: Network,
    data: Batches,
    method: Method,
    *,
    keep: Collection[str] = (),
    seed: int = 0,
    report: Callable[[], None] | None = None,
) -> Scores:
    """The saliency of every unit and sub-layer of `network`; kinds of axes in `keep` are skipped.

    Methods: `nvit` is the gate-Fisher above; `taylor` the absolute first-order term of the mean gradient, entry by entry;
    `magnitude` the squared weights that read the unit; `random` uniform numbers. With the last three a sub-layer's score is
    the sum over its units; a sub-layer without axes of its own has no score and is never removed. `report` is called after
    each batch. The network is left in eval mode.

    Raises:
        BadData: no batch, or a loss or gradient that is NaN or infinite.
        BadOption: no such method.
    """
    if method not in METHODS:
        raise BadOption(f"no method {method!r}; there are {', '.join(METHODS)}")
    gates = Gates.of(axes_of(network), axis_dims(network.architecture), keep)
    if method in ("random", "magnitude"):
        squares = {name: weight.detach().square() for name, weight in network.named_parameters()}
        found = {name: value.cpu() for name, value in gates.sums(squares).items()}
        return _with_layers(_random(found, seed) if method == "random" else found, network)
    network.eval()
    device = next(network.parameters()).device
    layers = {at.name: nn.Parameter(torch.ones((), device=device)) for at in network.walk()}
    gathered = Gathered(gates, network, layers, entrywise=method == "taylor")
    try:
        for images, labels in data:
            gathered.batch(images, labels)
            if report is not None:
                report()
    finally:
        for handle in gathered.handles:
            handle.remove()
        network.zero_grad(set_to_none=True)
        network.requires_grad_(True)
    return gathered.result()


class Gathered:
    """Accumulates the derivatives of gates over mini-batches; `layers` holds the gates of whole sub-layers.

    A hook reads each parameter's gradient as soon as it is computed and frees it, so that no two gradients are held at once.
    A mini-batch goes through the network in parts, which bounds the memory of activations; its gradient is their sum.
    """

    def __init__(self, gates: Gates, network: Network, layers: Mapping[str, nn.Parameter], *, entrywise: bool) -> None:
        self.gates, self.network, self.layers, self.entrywise = gates, network, layers, entrywise
        self.task = task_of(network.architecture)
        self.total: Scores = {}
        self.mean: dict[str, Tensor] = {}
        self.count = 0
        self._now: Scores = {}
        self.handles = []
        carriers = {name for found in gates.carriers.values() for name, _, _ in found}
        for name, weight in network.named_parameters():
            wanted = entrywise or name in carriers
            weight.requires_grad_(wanted)
            if wanted:
                self.handles.append(weight.register_post_accumulate_grad_hook(self._hook(name)))
        for name, gate in () if entrywise else layers.items():
            self.handles.append(gate.register_post_accumulate_grad_hook(self._hook(name)))

    def batch(self, images: Tensor, labels: Tensor) -> None:
        """Adds one mini-batch: images (B, channels, height, width), labels (B,)."""
        self._now = {}
        size = max(1, MICRO_TOKENS // self.network.architecture.layout.tokens)
        for start in range(0, len(labels), size):
            part, target = images[start : start + size], labels[start : start + size]
            loss = self.task.loss(self.network.run(part, self._step), target, LABEL_SMOOTHING)
            if not torch.isfinite(loss):
                raise BadData(f"the loss on the calibration images is {loss.item()}; check the weights and the data")
            (loss * (len(target) / len(labels))).backward()
        self.count += 1
        for name, value in self._now.items():
            self.total[name] = self.total[name] + value.square() if name in self.total else value.square()

    def result(self) -> Scores:
        """The scores: means over the mini-batches, on the CPU."""
        if not self.count:
            raise BadData("there are no images to score the units on; give at least one batch")
        found = {name: value / self.count for name, value in self.total.items()}
        if self.entrywise:
            weights = dict(self.network.named_parameters())
            products = {n: (weights[n].detach() * mean / self.count).abs() for n, mean in self.mean.items()}
            found = _with_layers(self.gates.sums(products), self.network)
        return {name: value.cpu() for name, value in found.items()}

    def _step(self, state: State, at: Sublayer) -> State:
        return at.wiring.gated(state, at, at.contribution(state), self.layers[at.name])

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        def accumulate(weight: Tensor) -> None:
            gradient = weight.grad
            if gradient is None:
                return
            weight.grad = None
            if not torch.isfinite(gradient).all():
                raise BadData(
                    f"the gradient of {name} on the calibration images is NaN or infinite; check the weights and the data"
                )
            if name in self.layers:
                self._add({name: gradient})
            elif self.entrywise:
                self.mean[name] = gradient if name not in self.mean else self.mean[name].add_(gradient)
            else:
                self._add(self.gates.sums({name: weight.detach() * gradient}))

        return accumulate

    def _add(self, found: Scores) -> None:
        for name, value in found.items():
            self._now[name] = self._now[name] + value if name in self._now else value


def _with_layers(scores: Scores, network: Network) -> Scores:
    """`scores` and a score for each sub-layer: the largest sum of scores over one of its axes."""
    found = dict(scores)
    for at in network.walk():
        axes = [f"{at.place}.{kind}" for kind in dims(type(at.operator.record))]
        sums = [scores[axis].sum() for axis in axes if axis in scores]
        if sums:
            found[at.name] = torch.stack(sums).max()
    return found


def _random(like: Scores, seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(value.shape, generator=generator) for name, value in sorted(like.items())}


def _sum_to(value: Tensor, place: tuple[int, ...]) -> Tensor:
    """`value` summed over all dimensions but those in `place`; the result has them in that order."""
    others = [dim for dim in range(value.dim()) if dim not in place]
    summed = value.sum(dim=others) if others else value
    return summed.T if len(place) == 2 and place[0] > place[1] else summed
