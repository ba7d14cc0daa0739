"""Correction of an averaged network with unlabelled images, sub-layer by sub-layer in order of execution.

`regress` fits every linear map of the fused network to the mean output of the aligned parents, on the fused network's own
inputs. Writers to the stream are fitted to the mean of the parents' streams minus the fused stream, so that they also correct
earlier errors (error feedback). The targets come from the true parents, whatever their size. `repair` only restores means
and deviations, of hidden units and of contributions to the stream.

Source: Jordan et al., "REPAIR", 2023, https://arxiv.org/abs/2211.08403; Jin et al., "Dataless Knowledge Fusion by Merging
Weights of Language Models" (RegMean), 2023, https://arxiv.org/abs/2212.09849.
Differs: RegMean solves each layer on the parents' own inputs; here they are the fused network's, with error feedback.
Batch norms are given the statistics of what they see (`wb.fusion.fit.normed`).
Limits: the streams of all networks are held for all images: (parents + 2) x images x tokens x width numbers. Only the last
convolution of a stem is fitted; the others stay averages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from wb.fusion.align.trace import cut, network_of
from wb.fusion.fit.fits import Fit, Moments, Outputs, Ridge, total, write_fit
from wb.fusion.fit.lane import Lane
from wb.fusion.fit.merge import Aligned
from wb.fusion.fit.normed import Targets, correct_part, parents_of
from wb.fusion.forms.joins import joins_folded
from wb.fusion.match.placed import runs
from wb.fusion.settings import RIDGE
from wb.models.axes import Axis, write
from wb.models.convolution import BatchNormed
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import Network
from wb.models.operator import NOTHING
from wb.models.planes import as_tokens, laid
from wb.models.walk import State, Sublayer
from wb.training.statistics import find_from, found_anew

ROWS = 24_576  # a map is fitted on at most so many tokens
Report = Callable[[int, int], None]


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
        """Makes all tokens. `regress` fits a convolutional stem; trained positions take over the mean error of tokens."""
        find_from(self.network, self.batches)
        for lane in self.lanes:
            lane.states = [lane.network.begin(part) for part in self.batches]
        self._draw()
        if isinstance(self.network.stem, BatchNormed):
            inputs = [self.network.normalised(part) for part in self.batches]
            there = [(x, x.network.stem, [x.network.normalised(part) for part in self.batches]) for x in self.lanes]
            self._normed(self.network.stem, "stem", inputs, there, None if self.network.first else self._stem_wanted)
        if self.method == "regress" and self.network.first is None:  # which stands between them and the stream
            if self.network.stem.fitted is not None:
                self._fit_stem(*self.network.stem.fitted)
            made = (as_tokens(self.network.tokens(part)) for part in self.batches)
            missing = torch.cat([self._wanted(i, 0) - tokens for i, tokens in enumerate(made)])
            self.network.positions.moved(self.network, missing.mean(0))
        self.states = [self.network.begin(part) for part in self.batches]

    def _fit_stem(self, last: str, bias: str) -> None:
        """Fits the last linear map of the stem."""
        stem = self.network.stem
        fit = self._fit(getattr(stem, last).flatten(1), getattr(stem, bias))
        for i, part in enumerate(self.batches):
            inputs = stem.inputs(self.network.normalised(part)).flatten(0, 1)
            fit.add(inputs, *self._stem_wanted(i, torch.arange(len(inputs))))
        write_fit(stem, [last], [bias], fit)

    def _stem_wanted(self, batch: int, rows: Tensor) -> tuple[Outputs, float]:
        """What the stem of the fused network should give."""
        streams, prefix = self._wanted(batch, 0), self.network.architecture.prefix
        laid_out = laid(torch.zeros_like(streams), self.network.layouts[0])
        places = as_tokens(self.network.positions.placed(self.network, laid_out))
        return [(1.0, (streams - places)[:, prefix:].flatten(0, 1)[rows])], 0.0

    def _merge(self, stage: int) -> None:
        """Moves all streams to the next stage; the fused network's merge is fitted first."""
        ended = [[x.network.wiring(stage - 1).end(state) for state in x.states] for x in self.lanes]
        for lane in self.lanes:
            lane.states = [lane.network.enter(state, stage) for state in lane.states]
        self._draw()
        merge = self.network.merge(stage)
        if isinstance(merge, BatchNormed):
            inputs = [self.network.wiring(stage - 1).end(state) for state in self.states]
            there = [(x, x.network.merge(stage), own) for x, own in zip(self.lanes, ended, strict=True)]
            name = f"merges.{stage - 1}"
            # In front of an activation there is no stream yet, only what the parents' own convolutions give.
            activated = getattr(merge, "activation", None) is not None
            self._normed(merge, name, inputs, there, "parts" if activated else partial(self._streams, stage))
        if self.method == "regress" and merge.fitted is not None:
            weight, bias = merge.fitted
            fit = self._fit(getattr(merge, weight).flatten(1), getattr(merge, bias))
            for i, state in enumerate(self.states):
                x = self.network.wiring(stage - 1).end(state)
                fit.add(self._picked(merge.inputs(x), i), [(1.0, self._picked(self._wanted(i, stage), i))])
            write_fit(merge, [weight], [bias], fit)
        self.states = [self.network.enter(state, stage) for state in self.states]

    def _sublayer(self, sublayer: Sublayer) -> None:
        """Fits the readers of a sub-layer, then its writers, and runs it in all networks."""
        module, stage = sublayer.operator, sublayer.stage
        if isinstance(sublayer.norm, BatchNormed):
            with found_anew([sublayer.norm]):
                for state in self.states:
                    sublayer.read(state)
        if isinstance(module, BatchNormed):
            self._normed_sublayer(sublayer, module)
            self.states = [sublayer(state) for state in self.states]
            return
        before = self._mapped([lane.streams for lane in self.lanes], stage)
        self._readers(sublayer)
        after = self._mapped([lane.run(lane.groups[sublayer.name]) for lane in self.lanes], stage)
        whole: list[Tensor] = []  # what a mixer's writer reads; a feed-forward's is too large to be kept
        for weight, bias in module.writers.items():
            fit = self._fit(getattr(module, weight).flatten(1), module.bias(weight))
            for i, state in enumerate(self.states):
                given = [(s, b - a) for (s, a), (_, b) in zip(before[i], after[i], strict=True)]
                if sublayer.kind == "ffn":  # only the chosen tokens are needed, as tokens do not interact
                    hidden = module.hidden(self._seen(sublayer, state, i), NOTHING)
                else:
                    whole.append(module.hidden(sublayer.read(state), NOTHING))
                    hidden = self._picked(whole[i], i)
                fit.add(hidden, given, total(before[i]) - self._picked(as_tokens(state.stream), i))
            write_fit(module, [weight], [bias], fit)
        for i, state in enumerate(self.states):
            given_now = module.written(whole[i]) if whole else sublayer.contribution(state)
            self.states[i] = sublayer.add(state, given_now)

    def _normed_sublayer(self, sublayer: Sublayer, module: BatchNormed) -> None:
        """Corrects a sub-layer with batch norms, and runs it in the parents; the last convolution corrects earlier errors."""
        inputs = [sublayer.read(state) for state in self.states]
        there = []
        for lane in self.lanes:
            if mine := lane.aligned.parent.sublayers.get(sublayer.name):
                own = lane.network.at(mine.name)
                there.append((lane, own.operator, [own.read(state) for state in lane.states]))
        before = [lane.streams for lane in self.lanes]
        after = [lane.run(lane.groups[sublayer.name]) for lane in self.lanes]
        axes = (write(f"s{sublayer.stage}.embed"),)

        def last(i: int, rows: Tensor) -> tuple[Outputs, Tensor]:
            pairs = [[x[i].flatten(0, 1)[rows] for x in (a, b)] for a, b in zip(before, after, strict=True)]
            old = [(lane.share, lane.mapped(a, axes)) for lane, (a, _) in zip(self.lanes, pairs, strict=True)]
            given = [(lane.share, lane.mapped(b - a, axes)) for lane, (a, b) in zip(self.lanes, pairs, strict=True)]
            return given, total(old) - as_tokens(self.states[i].stream).flatten(0, 1)[rows]

        self._normed(module, sublayer.prefix, inputs, there, last)

    def _normed(
        self,
        part: BatchNormed,
        prefix: str,
        inputs: Sequence[Tensor],
        there: Sequence[tuple[Lane, nn.Module, Sequence[Tensor]]],
        last: Targets | Literal["parts"] | None,
    ) -> None:
        """Corrects a part with batch norms; `there` has the same part of the parents that have it, each with its inputs."""

        parents = parents_of(there, {name: self.axes[f"{prefix}.{name}"] for name in part.axes})
        fit = self._fit if self.method == "regress" else None
        correct_part(part, inputs, parents, last, fit, self.generator)

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
        write_fit(module, names, biases, fit)

    def _head(self) -> None:
        norm: nn.Module | None = self.network.norm
        if isinstance(norm, BatchNormed):
            with found_anew([norm]):
                for state in self.states:
                    self.network.pooled(self.network.wiring(state.stage).end(state))
        for weight, bias in self.network.answer.readers.items():
            fit = self._fit(getattr(self.network, weight), None if bias is None else getattr(self.network, bias))
            for i, state in enumerate(self.states):
                theirs = [(lane.share, lane.network, _pooled(lane.network, lane.states[i])) for lane in self.lanes]
                given: Outputs = [(share, own.answer.answered(own, pooled, weight)) for share, own, pooled in theirs]
                fit.add(self.network.answer.seen(_pooled(self.network, state), weight), given)
            write_fit(self.network, [weight], [bias], fit)

    # --------------------------------------------------------------------------------------------------------- pieces

    def _wanted(self, batch: int, stage: int) -> Tensor:
        """The mean of the parents' streams: (B, N, D)."""
        axes = (write(f"s{stage}.embed"),)
        return total(
            [
                (lane.share, lane.mapped(x.flatten(0, 1), axes).unflatten(0, x.shape[:2]))
                for lane in self.lanes
                for x in [lane.streams[batch]]
            ]
        )

    def _streams(self, stage: int, batch: int, rows: Tensor) -> tuple[Outputs, float]:
        """The mean of the parents' streams at some places: (rows, D)."""
        return [(1.0, self._wanted(batch, stage).flatten(0, 1)[rows])], 0.0

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


def _pooled(network: Network, state: State) -> Tensor:
    """What the head reads of a network that ends with `state`."""
    state = network.enter(state, len(network.stages) - 1)
    return network.pooled(network.wiring(state.stage).end(state))
