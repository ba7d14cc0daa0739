"""Correction of a network with unlabelled images, sub-layer by sub-layer in order of execution, towards its parents.

The network is an average of parents, or what a cut has left of one. `regress` fits every linear map to the mean output of the
parents, on the network's own inputs. Writers to the stream are fitted to the mean of the parents' streams minus the network's
stream, so that they also correct earlier errors (error feedback). The targets come from the true parents, whatever their size.
Where sub-layers read other sums than the stream (the wiring `averaged`), there is no such difference, and writers are fitted to
what the parents' writers give. `writers` fits writers and the head only. `repair` only restores means and deviations, of hidden
units and of contributions to the stream.

Source: Jordan et al., "REPAIR", 2023, https://arxiv.org/abs/2211.08403; Jin et al., "Dataless Knowledge Fusion by Merging
Weights of Language Models" (RegMean), 2023, https://arxiv.org/abs/2212.09849; for `writers`, Kwon et al., "A Fast Post-Training
Pruning Framework for Transformers", 2022, https://arxiv.org/abs/2204.09656, which fits a factor for every unit that stays.
Differs: RegMean solves each layer on the parents' own inputs; here they are the network's, with error feedback. Batch norms are
given the statistics of what they see (`wb.training.refit.normed`).
Limits: the streams of all networks are held for all images: (parents + 1) x images x tokens x width numbers, and the images
until there are tokens; in sub-layers with batch norms some of them twice. Only the last convolution of a stem is fitted; the
others stay as they are, as do weights of one or two bits, writers in front of a gate, which is no linear map of what they give,
and those that stand for none or for several of a parent where sub-layers read other sums than the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from wb.core.precision import TRAINED
from wb.models.axes import write
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING
from wb.models.layers.planes import as_tokens, laid
from wb.models.model import Model
from wb.models.walk import State, Sublayer
from wb.training.refit.beside import Beside
from wb.training.refit.fits import Outputs, total, write_fit
from wb.training.refit.lane import Lane
from wb.training.refit.normed import Targets, correct_part, parents_of
from wb.training.refit.trace import read_by_head
from wb.training.statistics import find_from, found_anew

KEPT = 2**28  # bytes of what a mixer's writer reads of all images: what is larger is computed twice instead


class Correction(Beside):
    """The correction of a network: runs it and its parents over images side by side."""

    @torch.no_grad()
    def __call__(self) -> Model:
        """The corrected model, in the form that it had; layer scales that weights could take over are one."""
        self._start()
        steps = list(self.network.walk())
        for stage in range(len(self.network.stages)):
            if stage:
                self._merge(stage)
            for lane in self.lanes:
                lane.run(lane.starts.get(stage, ()))
            for sublayer in (s for s in steps if s.stage == stage):
                self._sublayer(sublayer)
                if self.report is not None:
                    self.report(steps.index(sublayer) + 1, len(steps))
        if self.fits:
            self._head()
        return replace(self.model, weights={name: p.detach() for name, p in self.network.named_parameters()})

    def _start(self) -> None:
        """Makes all tokens. A convolutional stem is fitted; trained positions take over the mean error of tokens."""
        find_from(self.network, self.batches)
        for lane in self.lanes:
            lane.states = [lane.network.begin(part) for part in self.batches]
        self._draw()
        if isinstance(self.network.stem, BatchNormed):
            inputs = [self.network.normalised(part) for part in self.batches]
            there = [(x, x.network.stem, [x.network.normalised(part) for part in self.batches]) for x in self.lanes]
            wanted: Targets | Literal["parts"] | None = None if self.network.first else self._stem_wanted
            if getattr(self.network.stem, "activation", None) is not None:  # there is no stream yet in front of it
                wanted = "parts"
            self._normed(self.network.stem, "stem", inputs, there, wanted)
        if self.fits and self.network.first is None:  # which stands between them and the stream
            if self.network.stem.fitted is not None:
                self._fit_stem(*self.network.stem.fitted)
            self._move_positions()
        self.states = [self.network.begin(part) for part in self.batches]
        self.batches = []  # nothing reads them any more, and of large images they are as much as a stream

    def _move_positions(self) -> None:
        """Has positions take over the mean error of the tokens that stand there; where none does, there is none."""
        wiring = self.network.wiring(0)
        made = [as_tokens(wiring.entered(self.network.begin(part))) for part in self.batches]
        longest = max(tokens.shape[1] for tokens in made)
        missing, seen = made[0].new_zeros(longest, made[0].shape[2]), made[0].new_zeros(longest, 1)
        for i, tokens in enumerate(made):
            mask = self.lanes[0].states[i].context.mask
            counts = tokens.new_ones(tokens.shape[:2]) if mask is None else mask.to(tokens)
            missing[: tokens.shape[1]] += ((self._wanted(i, 0) - tokens) * counts[:, :, None]).sum(0)
            seen[: tokens.shape[1]] += counts.sum(0)[:, None]
        self.network.positions.moved(self.network, missing / seen.clamp(min=1))

    def _fit_stem(self, last: str, bias: str) -> None:
        """Fits the last linear map of the stem."""
        stem = self.network.stem
        fit = self._fit(getattr(stem, last).flatten(1), getattr(stem, bias))
        for i, part in enumerate(self.batches):
            inputs = stem.inputs(self.network.normalised(part)).flatten(0, 1)
            fit.add(inputs, *self._stem_wanted(i, torch.arange(len(inputs))))
        write_fit(stem, [last], [bias], fit)

    def _stem_wanted(self, batch: int, rows: Tensor) -> tuple[Outputs, float]:
        """What the stem of the network should give."""
        streams, prefix = self._wanted(batch, 0), self.network.architecture.prefix
        laid_out = laid(torch.zeros_like(streams), self.network.layouts[0])
        places = as_tokens(self.network.positions.placed(self.network, laid_out))
        return [(1.0, (streams - places)[:, prefix:].flatten(0, 1)[rows])], 0.0

    def _merge(self, stage: int) -> None:
        """Moves all streams to the next stage; the network's merge is fitted first."""
        self._leave(stage - 1)
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
            self._normed(merge, name, inputs, there, "parts" if activated else partial(self._entered, stage))
        if self.fits and merge.fitted is not None:
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
            self._add(sublayer)
            return
        before = self._mapped([lane.streams for lane in self.lanes], stage)
        self._readers(sublayer)
        after = self._mapped([lane.sums(lane.groups[sublayer.name]) for lane in self.lanes], stage)
        # What a mixer's writer reads, where it is not too large to be kept, as a feed-forward's is.
        whole: list[Tensor] = []
        for weight, bias in module.writers.items():
            if module.precision(weight) in TRAINED or not self._told(sublayer):
                continue
            fit = self._fit(getattr(module, weight).flatten(1), module.bias(weight))
            for i, state in enumerate(self.states):
                given = [(s, b - a) for (s, a), (_, b) in zip(before[i], after[i], strict=True)]
                if (
                    sublayer.kind == "ffn" and module.plain
                ):  # only the chosen tokens are needed, as tokens do not interact
                    hidden = module.hidden(self._seen(sublayer, state, i), NOTHING)
                elif sublayer.kind == "ffn":
                    hidden = self._picked(module.hidden(sublayer.read(state), state.context), i)
                else:
                    hidden = module.hidden(sublayer.read(state), state.context)
                    whole += [hidden] if hidden.nbytes * len(self.states) <= KEPT else []
                    hidden = self._picked(hidden, i)
                missing = total(before[i]) - self._picked(as_tokens(state.stream), i)
                fit.add(hidden, given, missing if sublayer.wiring.sums else 0.0)
            write_fit(module, [weight], [bias], fit)
        self._add(sublayer, whole if len(whole) == len(self.states) else ())

    def _add(self, sublayer: Sublayer, hidden: Sequence[Tensor] = ()) -> None:
        """Runs the sub-layer, from what its writer reads where that is known; a batch norm behind it sees that first."""

        def after(i: int) -> State:
            state = self.states[i]
            if not hidden:
                return sublayer.add(state, sublayer.contribution(state))
            return sublayer.add(state, sublayer.joined(sublayer.operator.written(hidden[i]), state))

        if isinstance(sublayer.norm, BatchNormed) and not sublayer.wiring.folds:
            with found_anew([sublayer.norm]):
                for i in range(len(self.states)):
                    after(i)
        for i in range(len(self.states)):
            self.states[i] = after(i)

    def _told(self, sublayer: Sublayer) -> bool:
        """Whether it is known what its writers are to give: what the parents' streams gain, where their gains add up.

        Where each sub-layer reads another sum of what was given, one of the network can stand for one alone.
        """
        alone = all(len(lane.groups[sublayer.name]) == 1 for lane in self.lanes)
        return not sublayer.gated and (sublayer.wiring.sums or alone)

    def _normed_sublayer(self, sublayer: Sublayer, module: BatchNormed) -> None:
        """Corrects a sub-layer with batch norms, and runs it in the parents; the last convolution corrects earlier errors."""
        inputs = [sublayer.read(state) for state in self.states]
        there = []
        for lane in self.lanes:
            if mine := lane.sublayers.get(sublayer.name):
                own = lane.network.at(mine.name)
                there.append((lane, own.operator, [own.read(state) for state in lane.states]))
        before = [lane.streams for lane in self.lanes]
        after = [list(lane.sums(lane.groups[sublayer.name])) for lane in self.lanes]
        axes = (write(f"s{sublayer.stage}.embed"),)

        def last(i: int, rows: Tensor) -> tuple[Outputs, Tensor | float]:
            pairs = [[x[i].flatten(0, 1)[rows] for x in (a, b)] for a, b in zip(before, after, strict=True)]
            given = [(lane.share, lane.mapped(b - a, axes)) for lane, (a, b) in zip(self.lanes, pairs, strict=True)]
            if not sublayer.wiring.sums:
                return given, 0.0
            old = [(lane.share, lane.mapped(a, axes)) for lane, (a, _) in zip(self.lanes, pairs, strict=True)]
            return given, total(old) - as_tokens(self.states[i].stream).flatten(0, 1)[rows]

        # Without a writer what is added to the stream is not linear in the last convolution, which then does as the parents' do.
        targets: Targets | Literal["parts"] = last if sublayer.operator.writers else "parts"
        self._normed(module, sublayer.prefix, inputs, there, targets if self._told(sublayer) else None)

    def _normed(
        self,
        part: BatchNormed,
        prefix: str,
        inputs: Sequence[Tensor],
        there: Sequence[tuple[Lane, nn.Module, Sequence[Tensor]]],
        last: Targets | Literal["parts"] | None,
    ) -> None:
        """Corrects a part with batch norms; `there` has the same part of the parents that have it, each with its inputs."""

        there = () if self.method == "writers" else there
        parents = parents_of(there, {name: self.axes[f"{prefix}.{name}"] for name in part.axes})
        fit = self._fit if self.fits else None
        correct_part(part, inputs, parents, last, fit, self.generator)

    def _readers(self, sublayer: Sublayer) -> None:
        """Fits the weights that read the stream in this sub-layer: all with a bias in one fit, all without one in another."""
        if self.method == "writers":
            return
        there = [(lane, mine) for lane in self.lanes if (mine := lane.sublayers.get(sublayer.name))]
        readers = sublayer.operator.readers
        names = [name for name in readers if self.fits or self._counted(sublayer, name)]
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
                values = own.operator.read_off(self._seen(own, lane.states[i], i))
                parts = [self._on_axes(lane, own, sublayer, name, values[name]) for name in names]
                outputs.append((lane.share / total, torch.cat(parts, dim=1)))
            fit.add(self._seen(sublayer, state, i), outputs)
        write_fit(module, names, biases, fit)

    def _on_axes(self, lane: Lane, own: Sublayer, sublayer: Sublayer, reader: str, values: Tensor) -> Tensor:
        """Outputs of a parent's reader (rows, features), mapped to the network's axes."""
        shape = getattr(own.operator, reader).shape[:-1]
        return lane.mapped(values.unflatten(1, shape), self.axes[f"{sublayer.prefix}.{reader}"][:-1])

    def _leave(self, stage: int) -> None:
        """Runs what parents have behind the last sub-layer of a stage that stands for any of it."""
        for lane in self.lanes:
            lane.run(lane.ends.get(stage, ()))

    def _head(self) -> None:
        """Fits the head to the parents' answers."""
        self._leave(len(self.network.stages) - 1)
        if self.network.architecture.head.precision in TRAINED:
            return
        norm: nn.Module | None = self.network.norm
        if isinstance(norm, BatchNormed):
            with found_anew([norm]):
                for state in self.states:
                    self.network.pooled(self.network.wiring(state.stage).end(state))
        for weight, bias in self.network.answer.readers.items():
            if not hasattr(self.network, weight):  # a table that tokens are looked up in too
                continue
            fit = self._fit(getattr(self.network, weight), None if bias is None else getattr(self.network, bias))
            for i, state in enumerate(self.states):
                theirs = [(lane.share, lane.network, read_by_head(lane.network, lane.states[i])) for lane in self.lanes]
                given: Outputs = [(share, own.answer.answered(own, pooled, weight)) for share, own, pooled in theirs]
                seen = self.network.answer.seen(read_by_head(self.network, state), weight)
                if self.network.architecture.head.foresees:  # it answers at every token
                    given, seen = [(share, self._picked(one, i)) for share, one in given], self._picked(seen, i)
                fit.add(seen, given)
            write_fit(self.network, [weight], [bias], fit)
