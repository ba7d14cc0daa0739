"""Correcting an average of networks with unlabelled images, sub-layer by sub-layer in order of execution.

`regress` fits every linear map of the fused network to what the aligned parents' give on average, on the fused network's
own inputs; what writes to the stream is fitted to the average of the parents' streams minus the fused one, so that what
went wrong before is made good. The targets are those of the true parents, whatever their size. `repair` only restores
means and deviations, of hidden units and of what is written to the stream.

Source: Jordan et al., "REPAIR", 2023, https://arxiv.org/abs/2211.08403; Jin et al., "Dataless Knowledge Fusion by Merging
Weights of Language Models" (RegMean), 2023, https://arxiv.org/abs/2212.09849.
Differs: RegMean solves each layer on the parents' own inputs; here they are the fused network's, with error feedback.
Limits: the streams of all networks are held for all images: (parents + 1) x images x tokens x width numbers. Convolutions
of a stem but its last are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.fusion.canonical import Sublayer, sublayers
from wb.fusion.fits import Fit, Moments, Outputs, Ridge
from wb.fusion.merge import Aligned
from wb.fusion.placed import runs
from wb.fusion.trace import added, contribution, cut, network_of, operator, projected, read_by
from wb.models.axes import Axes, Axis, remap, write
from wb.models.model import Model
from wb.models.network import Network, axes_of
from wb.models.operators._base import OperatorModule
from wb.models.stem import ConvStem, Merge

ROWS = 32_768  # tokens that a map is fitted on at most
RIDGE = 1e-3
Report = Callable[[int, int], None]


@dataclass
class Lane:
    """A parent on its way through the images: its network, its sub-layers by the fused one's, and its streams by batch."""

    aligned: Aligned
    share: float
    network: Network
    starts: dict[int, list[Sublayer]]
    groups: dict[str, list[Sublayer]]
    streams: list[Tensor] = field(default_factory=list)

    def stream(self, batch: int, stage: int) -> Tensor:
        """The stream on the fused network's axes: (B, N, D)."""
        return self.mapped(self.streams[batch], (write(f"s{stage}.embed"),))

    def mapped(self, values: Tensor, axes: Axes) -> Tensor:
        """Activations (B, N, the sizes of `axes`) on the fused network's axes."""
        return remap({"": values}, {"": (None, None, *axes)}, self.aligned.maps)[""]

    def run(self, group: Sequence[Sublayer]) -> None:
        """Lets every stream through some sub-layers."""
        for i, x in enumerate(self.streams):
            for mine in group:
                x = added(self.network, mine, x, contribution(self.network, mine, x))
            self.streams[i] = x


class Correction:
    """Walks an average of parents and the parents through `images` (n, channels, height, width) together."""

    def __init__(
        self,
        merged: Model,
        parents: Sequence[Aligned],
        shares: Sequence[float],
        images: Tensor,
        method: Literal["regress", "repair"] = "regress",
        *,
        ridge: float = RIDGE,
        seed: int = 0,
        report: Report | None = None,
    ) -> None:
        self.merged, self.method, self.ridge, self.report = merged, method, ridge, report
        self.network = network_of(replace(merged, weights={name: w.clone() for name, w in merged.weights.items()}))
        self.axes = axes_of(self.network)
        self.lanes = [
            Lane(parent, share, network_of(parent.parent.model), *runs(parent.parent, merged))
            for parent, share in zip(parents, shares, strict=True)
            if share > 0
        ]
        dtype = next(self.network.parameters()).dtype
        self.batches = [part.to(dtype) for part in cut(images)]
        self.streams: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self) -> Model:
        """The corrected model, in canonical form as the average was."""
        self._start()
        steps = list(sublayers(self.network))
        for stage in range(len(self.network.stages)):
            if stage:
                self._merge(stage)
            for lane in self.lanes:
                lane.run(lane.starts[stage])
            for sublayer in (s for s in steps if s.stage == stage):
                self._sublayer(sublayer)
                if self.report is not None:
                    self.report(steps.index(sublayer) + 1, len(steps))
        if self.method == "regress":
            self._head()
        return replace(self.merged, weights={name: p.detach() for name, p in self.network.named_parameters()})

    def _start(self) -> None:
        """Tokens of all; a convolutional stem is fitted, and what is missing at each place is added to the positions."""
        for lane in self.lanes:
            lane.streams = [lane.network.tokens(part) for part in self.batches]
        if self.method == "regress":
            if isinstance(self.network.stem, ConvStem):
                self._fit_stem(self.network.stem)
            missing = torch.stack(
                [(self._wanted(i, 0) - self.network.tokens(part)).sum(0) for i, part in enumerate(self.batches)]
            )
            self.network.position.add_(missing.sum(0) / sum(map(len, self.batches)))
        self.streams = [self.network.tokens(part) for part in self.batches]

    def _fit_stem(self, stem: ConvStem) -> None:
        fit = self._fit(stem.last.flatten(1), stem.last_bias)
        prefix = 0 if self.network.cls is None else 1
        for i, part in enumerate(self.batches):
            wanted = (self._wanted(i, 0) - self.network.position)[:, prefix:]
            inputs = _patches(stem.features(self.network.normalised(part)))
            self._add(fit, inputs, [(1.0, wanted)])
        self._set(stem, "last", "last_bias", fit)

    def _merge(self, stage: int) -> None:
        """Parents' streams into their next stage, and the fused one's behind a fitted merge."""
        for lane in self.lanes:
            lane.streams = [lane.network.merges[stage - 1](x) for x in lane.streams]
        merge = self.network.merges[stage - 1]
        if not isinstance(merge, Merge):
            raise TypeError(type(merge).__name__)
        if self.method == "regress":
            fit = self._fit(merge.merge.flatten(1), merge.merge_bias)
            for i, x in enumerate(self.streams):
                image = x.transpose(1, 2).unflatten(2, merge.grid)
                self._add(fit, _patches(image), [(1.0, self._wanted(i, stage))])
            self._set(merge, "merge", "merge_bias", fit)
        self.streams = [merge(x) for x in self.streams]

    def _sublayer(self, sublayer: Sublayer) -> None:
        module = operator(self.network, sublayer)
        before = [[lane.stream(i, sublayer.stage) for lane in self.lanes] for i in range(len(self.batches))]
        self._readers(sublayer, module)
        for lane in self.lanes:
            lane.run(lane.groups[sublayer.name])
        for weight, bias in sublayer.module.writers.items():
            fit = self._fit(getattr(module, weight).flatten(1), getattr(module, bias))
            for i, x in enumerate(self.streams):
                after = [lane.stream(i, sublayer.stage) for lane in self.lanes]
                given = [(lane.share, b - a) for lane, a, b in zip(self.lanes, before[i], after, strict=True)]
                owed = _total([(lane.share, a) for lane, a in zip(self.lanes, before[i], strict=True)]) - x
                self._add(fit, module.hidden(read_by(self.network, sublayer, x)), given, owed)
            self._set(module, weight, bias, fit)
        for i, x in enumerate(self.streams):
            self.streams[i] = added(self.network, sublayer, x, contribution(self.network, sublayer, x))

    def _readers(self, sublayer: Sublayer, module: OperatorModule) -> None:
        """Fits what reads the stream in this sub-layer, all at once, for none depends on another."""
        lanes = [(lane, lane.aligned.parent.sublayers.get(sublayer.name)) for lane in self.lanes]
        there = [(lane, mine) for lane, mine in lanes if mine is not None]
        total = sum(lane.share for lane, _ in there)
        names = [name for name in sublayer.module.readers if self.method == "regress" or self._counted(sublayer, name)]
        fits = {
            name: self._fit(getattr(module, name).flatten(0, -2), self._bias(sublayer, module, name)) for name in names
        }
        if not there or not names:
            return
        for i, x in enumerate(self.streams):
            seen = read_by(self.network, sublayer, x)
            given = [
                (lane, projected(lane.network, mine, read_by(lane.network, mine, lane.streams[i])))
                for lane, mine in there
            ]
            rows = self._rows(seen)
            for name, fit in fits.items():
                outputs: list[tuple[float, Tensor]] = []
                for lane, values in given:
                    shape = lane.aligned.parent.weight(f"{sublayer.prefix}.{name}").shape[:-1]
                    axes = self.axes[f"{sublayer.prefix}.{name}"][:-1]
                    y = lane.mapped(values[name].unflatten(2, shape), axes).flatten(2)
                    outputs.append((lane.share / total, y))
                self._add(fit, seen, outputs, rows=rows)
        for name, fit in fits.items():
            self._set(module, name, sublayer.module.readers[name], fit)

    def _head(self) -> None:
        fit = self._fit(self.network.head, self.network.head_bias)
        for i, x in enumerate(self.streams):
            given: Outputs = [(lane.share, lane.network.classify(lane.streams[i])) for lane in self.lanes]
            fit.add(self.network.pooled(x), given)
        self._set(self.network, "head", "head_bias", fit)

    # --------------------------------------------------------------------------------------------------------- pieces

    def _wanted(self, batch: int, stage: int) -> Tensor:
        """The average of the parents' streams."""
        return _total([(lane.share, lane.stream(batch, stage)) for lane in self.lanes])

    def _counted(self, sublayer: Sublayer, reader: str) -> bool:
        """Whether `repair` looks behind this reader: at hidden units, not inside heads."""
        axes = [axis for axis in self.axes[f"{sublayer.prefix}.{reader}"][:-1] if isinstance(axis, Axis)]
        return len(axes) == 1

    def _bias(self, sublayer: Sublayer, module: OperatorModule, reader: str) -> Tensor:
        found: Tensor = getattr(module, sublayer.module.readers[reader]).flatten()
        return found

    def _fit(self, weight: Tensor, bias: Tensor) -> Fit:
        return Ridge(weight, bias, self.ridge) if self.method == "regress" else Moments(weight, bias)

    def _rows(self, x: Tensor) -> Tensor:
        """Which tokens of a batch (B, N, ·) count."""
        images, tokens = x.shape[:2]
        share = ROWS / (sum(map(len, self.batches)) * tokens)
        chosen = torch.randperm(images * tokens, generator=self.generator)
        return chosen[: max(1, round(share * images * tokens))]

    def _add(
        self, fit: Fit, inputs: Tensor, given: Outputs, owed: Tensor | None = None, rows: Tensor | None = None
    ) -> None:
        """Hands tokens (B, N, ·) to a fit."""
        rows = self._rows(inputs) if rows is None else rows
        outputs = [(share, y.flatten(0, 1)[rows]) for share, y in given]
        fit.add(inputs.flatten(0, 1)[rows], outputs, 0.0 if owed is None else owed.flatten(0, 1)[rows])

    def _set(self, module: nn.Module, weight: str, bias: str, fit: Fit) -> None:
        w, b = fit.solve()
        for parameter, value in ((getattr(module, weight), w), (getattr(module, bias), b)):
            parameter.copy_(value.reshape(parameter.shape))


def _total(parts: Outputs) -> Tensor:
    """The weighted sum."""
    return torch.stack([share * part for share, part in parts]).sum(0)


def _patches(image: Tensor) -> Tensor:
    """(B, C, rows, columns) -> (B, tokens, C*2*2), what a 2x2 convolution with stride 2 reads."""
    return F.unfold(image, 2, stride=2).transpose(1, 2)
