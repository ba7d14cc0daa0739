"""Correction of an averaged network with unlabelled images, sub-layer by sub-layer in order of execution.

`regress` fits every linear map of the fused network to the mean output of the aligned parents, on the fused network's own
inputs. Writers to the stream are fitted to the mean of the parents' streams minus the fused stream, so that they also correct
earlier errors (error feedback). The targets come from the true parents, whatever their size. `repair` only restores means
and deviations, of hidden units and of contributions to the stream.

Source: Jordan et al., "REPAIR", 2023, https://arxiv.org/abs/2211.08403; Jin et al., "Dataless Knowledge Fusion by Merging
Weights of Language Models" (RegMean), 2023, https://arxiv.org/abs/2212.09849.
Differs: RegMean solves each layer on the parents' own inputs; here they are the fused network's, with error feedback.
The statistics of batch norms are found anew from the images, as REPAIR does; the convolutions in front of them stay averages.
Limits: the streams of all networks are held for all images: (parents + 2) x images x tokens x width numbers. Only the last
convolution of a stem is fitted; the others stay averages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from wb.fusion.align.trace import cut, network_of
from wb.fusion.fit.fits import Fit, Moments, Outputs, Ridge
from wb.fusion.fit.merge import Aligned
from wb.fusion.forms.joins import joins_folded
from wb.fusion.match.placed import runs
from wb.fusion.settings import RIDGE
from wb.models.axes import Axes, Axis, remap, write
from wb.models.convolution import BatchNormed
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import Network
from wb.models.operator import NOTHING
from wb.models.planes import as_tokens
from wb.models.walk import State, Sublayer
from wb.training.statistics import find_from

ROWS = 24_576  # a map is fitted on at most so many tokens
Report = Callable[[int, int], None]


@dataclass
class Lane:
    """One parent's pass over the images: its network, its sub-layers by those of the fused network, its states by batch."""

    aligned: Aligned
    share: float
    network: Network
    starts: dict[int, list[str]]
    groups: dict[str, list[str]]
    states: list[State] = field(default_factory=list)

    @property
    def streams(self) -> list[Tensor]:
        """The residual streams (b, N, D), batch by batch."""
        return [as_tokens(state.stream) for state in self.states]

    def mapped(self, values: Tensor, axes: Axes) -> Tensor:
        """Activations (rows, sizes of `axes`), mapped to the fused network's axes and flattened: (rows, features)."""
        return remap({"": values}, {"": (None, *axes)}, self.aligned.maps)[""].flatten(1)

    def run(self, group: Sequence[str]) -> list[Tensor]:
        """Runs every state through a group of sub-layers; returns each stream before a norm behind the last of them."""
        sums = []
        steps = [self.network.at(name) for name in group]
        for i, state in enumerate(self.states):
            total = state.stream
            for at in steps:
                given = at.contribution(state)
                total, state = state.stream + given, at.add(state, given)
            self.states[i] = state
            sums.append(as_tokens(total))
        return sums


class Correction:
    """The correction of an average: runs it and its parents over `images` (n, channels, height, width) side by side."""

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
        merged = joins_folded(merged)  # what is fitted is then what is added
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
        self.states: list[State] = []
        self.rows: list[Tensor] = []  # the tokens of each batch that are fitted on
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def __call__(self) -> Model:
        """The corrected model, in canonical form as the average was."""
        self._start()
        steps = list(self.network.walk())
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
        """Makes all tokens, behind batch norms with new statistics.

        `regress` fits a convolutional stem; trained positions take over the mean error of tokens.
        """
        find_from(self.network, self.batches)
        for lane in self.lanes:
            lane.states = [lane.network.begin(part) for part in self.batches]
        self._draw()
        if self.method == "regress" and self.network.first is None:  # which stands between them and the stream
            if self.network.stem.fitted is not None:
                self._fit_stem(*self.network.stem.fitted)
            made = (as_tokens(self.network.tokens(part)) for part in self.batches)
            missing = [(self._wanted(i, 0) - tokens).sum(0) for i, tokens in enumerate(made)]
            self.network.positions.moved(self.network, torch.stack(missing).sum(0) / sum(map(len, self.batches)))
        self.states = [self.network.begin(part) for part in self.batches]

    def _fit_stem(self, last: str, bias: str) -> None:
        """Fits the last linear map of the stem."""
        stem, prefix = self.network.stem, self.network.architecture.prefix
        fit = self._fit(getattr(stem, last).flatten(1), getattr(stem, bias))
        for i, part in enumerate(self.batches):
            streams = self._wanted(i, 0)
            places = self.network.positions.placed(self.network, torch.zeros_like(streams))
            inputs = stem.inputs(self.network.normalised(part))
            fit.add(inputs.flatten(0, 1), [(1.0, (streams - places)[:, prefix:].flatten(0, 1))])
        _set(stem, [last], [bias], fit)

    def _merge(self, stage: int) -> None:
        """Moves all streams to the next stage; the fused network's merge is fitted first."""
        for lane in self.lanes:
            lane.states = [lane.network.enter(state, stage) for state in lane.states]
        self._draw()
        merge = self.network.merge(stage)
        if self.method == "regress" and merge.fitted is not None:
            weight, bias = merge.fitted
            fit = self._fit(getattr(merge, weight).flatten(1), getattr(merge, bias))
            for i, state in enumerate(self.states):
                x = self.network.wiring(stage - 1).end(state)
                fit.add(self._picked(merge.inputs(x), i), [(1.0, self._picked(self._wanted(i, stage), i))])
            _set(merge, [weight], [bias], fit)
        self.states = [self.network.enter(state, stage) for state in self.states]

    def _sublayer(self, sublayer: Sublayer) -> None:
        """Fits the readers of a sub-layer, then its writers, and runs it in all networks. One with batch norms is only run."""
        module, stage = sublayer.operator, sublayer.stage
        before = self._mapped([lane.streams for lane in self.lanes], stage)
        fitted = not isinstance(module, BatchNormed)
        if fitted:
            self._readers(sublayer)
        after = self._mapped([lane.run(lane.groups[sublayer.name]) for lane in self.lanes], stage)
        whole: list[Tensor] = []  # what a mixer's writer reads; a feed-forward's is too large to be kept
        for weight, bias in module.writers.items() if fitted else ():
            fit = self._fit(getattr(module, weight).flatten(1), module.bias(weight))
            for i, state in enumerate(self.states):
                given = [(s, b - a) for (s, a), (_, b) in zip(before[i], after[i], strict=True)]
                if sublayer.kind == "ffn":  # only the chosen tokens are needed, as tokens do not interact
                    hidden = module.hidden(self._seen(sublayer, state, i), NOTHING)
                else:
                    whole.append(module.hidden(sublayer.read(state), NOTHING))
                    hidden = self._picked(whole[i], i)
                fit.add(hidden, given, _total(before[i]) - self._picked(as_tokens(state.stream), i))
            _set(module, [weight], [bias], fit)
        for i, state in enumerate(self.states):
            given_now = module.written(whole[i]) if whole else sublayer.contribution(state)
            self.states[i] = sublayer.add(state, given_now)

    def _readers(self, sublayer: Sublayer) -> None:
        """Fits the weights that read the stream in this sub-layer: all with a bias in one fit, all without one in another."""
        there = [(lane, mine) for lane in self.lanes if (mine := lane.aligned.parent.sublayers.get(sublayer.name))]
        readers = sublayer.operator.readers
        names = [name for name in readers if self.method == "regress" or self._counted(sublayer, name)]
        for chosen in ([n for n in names if readers[n] is not None], [n for n in names if readers[n] is None]):
            if there and chosen:
                self._fit_readers(sublayer, there, chosen)

    def _fit_readers(self, sublayer: Sublayer, there: Sequence[tuple[Lane, Sublayer]], names: Sequence[str]) -> None:
        """Fits some readers, which all have a bias or none, to those of the parents that have the sub-layer."""
        module, total = sublayer.operator, sum(lane.share for lane, _ in there)
        biases = [module.readers[name] for name in names]
        given = [bias.flatten() for name in names if (bias := module.bias(name)) is not None]
        fit = self._fit(
            torch.cat([getattr(module, name).flatten(0, -2) for name in names]), torch.cat(given) if given else None
        )
        for i, state in enumerate(self.states):
            outputs: list[tuple[float, Tensor]] = []
            for lane, mine in there:
                own = lane.network.at(mine.name)
                values = own.operator.reader_outputs(self._seen(own, lane.states[i], i))
                parts = [self._on_axes(lane, f"{sublayer.prefix}.{name}", values[name]) for name in names]
                outputs.append((lane.share / total, torch.cat(parts, dim=1)))
            fit.add(self._seen(sublayer, state, i), outputs)
        _set(module, names, biases, fit)

    def _head(self) -> None:
        ((weight, bias),) = self.network.answer.readers.items()
        fit = self._fit(getattr(self.network, weight), None if bias is None else getattr(self.network, bias))
        for i, state in enumerate(self.states):
            given: Outputs = [(lane.share, lane.network.end(lane.states[i])) for lane in self.lanes]
            fit.add(self.network.pooled(self.network.wiring(state.stage).end(state)), given)
        _set(self.network, [weight], [bias], fit)

    # --------------------------------------------------------------------------------------------------------- pieces

    def _wanted(self, batch: int, stage: int) -> Tensor:
        """The mean of the parents' streams: (B, N, D)."""
        axes = (write(f"s{stage}.embed"),)
        return _total(
            [
                (lane.share, lane.mapped(x.flatten(0, 1), axes).unflatten(0, x.shape[:2]))
                for lane in self.lanes
                for x in [lane.streams[batch]]
            ]
        )

    def _mapped(self, streams: Sequence[Sequence[Tensor]], stage: int) -> list[Outputs]:
        """By batch, the parents' `streams` at the chosen tokens, with their shares: (rows, D)."""
        axes = (write(f"s{stage}.embed"),)
        pairs = list(zip(self.lanes, streams, strict=True))
        return [
            [(lane.share, lane.mapped(self._picked(own[i], i), axes)) for lane, own in pairs]
            for i in range(len(self.batches))
        ]

    def _on_axes(self, lane: Lane, reader: str, values: Tensor) -> Tensor:
        """Outputs of a parent's reader (rows, features), mapped to the fused network's axes."""
        return lane.mapped(values.unflatten(1, lane.aligned.parent.weight(reader).shape[:-1]), self.axes[reader][:-1])

    def _counted(self, sublayer: Sublayer, reader: str) -> bool:
        """Whether `repair` restores this reader's outputs: those that are hidden units, not those within heads."""
        axes = [axis for axis in self.axes[f"{sublayer.prefix}.{reader}"][:-1] if isinstance(axis, Axis)]
        return len(axes) == 1

    def _fit(self, weight: Tensor, bias: Tensor | None) -> Fit:
        return Ridge(weight, bias, self.ridge) if self.method == "regress" else Moments(weight, bias)

    def _draw(self) -> None:
        """Chooses the random tokens of this stage to fit on."""
        totals = [x.shape[0] * x.shape[1] for x in self.lanes[0].streams]
        share = min(1.0, ROWS / sum(totals))
        self.rows = [torch.randperm(n, generator=self.generator)[: max(1, round(share * n))] for n in totals]

    def _seen(self, at: Sublayer, state: State, batch: int) -> Tensor:
        """The input of a sub-layer's operator at the chosen tokens: (rows, D)."""
        some = State(
            self._picked(state.stream, batch), state.stage, tuple(self._picked(x, batch) for x in state.memory)
        )
        return at.read(some)

    def _picked(self, x: Tensor, batch: int) -> Tensor:
        """The chosen tokens of (B, N, ·): (rows, ·)."""
        return x.flatten(0, 1)[self.rows[batch]]


def _set(module: nn.Module, weights: Sequence[str], biases: Sequence[str | None], fit: Fit) -> None:
    """Writes what one fit found into the parameters that it was of."""
    weight, bias = fit.solve()
    start = 0
    for name, other in zip(weights, biases, strict=True):
        own = getattr(module, name)
        rows = slice(start, start := start + own.numel() // weight.shape[1])
        own.copy_(weight[rows].reshape(own.shape))
        if other is not None:
            beside = getattr(module, other)
            beside.copy_(bias[rows].reshape(beside.shape))


def _total(parts: Outputs) -> Tensor:
    """The weighted sum of the parts."""
    return torch.stack([share * part for share, part in parts]).sum(0)
