"""A part of a network, some of its blocks or a share of them, from the states that it is given to those that it hands on.

Source of the overlap: Zhang et al., "Ladder-Residual", 2025, section 3, https://arxiv.org/abs/2501.06589: where a sub-layer does
not read what the one before it adds, that one's sum over the processes is under way while it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wb.models.decoding import looking_back, sized
from wb.models.layers.operator import Context
from wb.models.layers.packing import Packing
from wb.models.network import Network
from wb.models.staged.pool import Pool
from wb.models.staged.spans import Place, Span, places
from wb.models.walk import State, Sublayer
from wb.scale.line.sums import Sum, Sums

Past = dict[str, tuple[Tensor, ...]]  # what each sub-layer has kept of the tokens before, by its prefix


class Batch(NamedTuple):
    """What is known of a batch before it is computed: how many examples, and the tokens of each; None: all have as many."""

    size: int
    lengths: tuple[int, ...] | None = None

    @property
    def mask(self) -> Tensor | None:
        """Which tokens count, (B, N), N those of the longest text."""
        if self.lengths is None:
            return None
        lengths = torch.tensor(self.lengths)
        return torch.arange(max(1, int(lengths.max()))) < lengths[:, None]


@dataclass(frozen=True)
class _Late:
    """A sub-layer whose contribution is on its way, and the state before it."""

    before: State
    at: Sublayer
    sum: Sum

    def added(self) -> State:
        given = self.sum.taken()
        return self.at.add(self.before, self.at.joined(given, self.before))


@dataclass(frozen=True)
class Part:
    """The blocks of `span`; where `sums` says so, with a share of the heads and hidden units of each.

    The network is in eval mode and has the weights that `pool` places. With `packs` padding is neither computed nor handed on.
    """

    network: Network
    span: Span
    pool: Pool
    sums: Sums
    packs: bool = True

    def expected(self, batch: Batch) -> tuple[int, ...]:
        """The shape of what the part before hands on."""
        a, (end, _) = self.network.architecture, self._before
        stage, layout, count = a.stages[end], self.network.layouts[end], self._count
        context = self._context(batch)
        if context.packing is not None:
            return (count, 1, len(context.packing.rows), stage.embed)
        if context.mask is not None:
            return (count, *context.mask.shape, stage.embed)
        size = batch.size * a.input.views
        return (count, size, *((stage.embed, *layout.shape) if stage.plane == "map" else (layout.tokens, stage.embed)))

    def expected_further(self, tokens: int) -> tuple[int, ...]:
        """The same of further tokens of one text."""
        return (self._count, 1, tokens, self.network.architecture.stages[0].embed)

    def begun(self, inputs: Tensor, batch: Batch) -> State:
        """The state in front of the first block of all."""
        with torch.inference_mode():
            state = self.network.begin(inputs)
            context = self._context(batch)
            return self._moved(state, context.packing)._replace(context=context)

    def begun_further(self, ids: Tensor, before: int) -> State:
        """The state in front of the first block, of further tokens (1, N) of a text of which `before` were given."""
        with torch.inference_mode():
            context = looking_back(ids.shape[1], before)
            tokens = self.network.tokens(ids, context.places)
            return self.network.wiring(0).begin(tokens, 0)._replace(context=context)

    def taken(self, given: Tensor, batch: Batch) -> State:
        """The state that the part before handed on, as its `handed`."""
        return self._taken(given, self._context(batch))

    def taken_further(self, given: Tensor, before: int) -> State:
        """The same of further tokens of a text of which `before` were given."""
        return self._taken(given, looking_back(given.shape[2], before))

    def handed(self, state: State) -> Tensor:
        """A state as one tensor, for the next part."""
        return torch.stack([state.stream, *self._kept(state)])

    def outputs(self, state: State) -> Tensor:
        """What the network gives, from the state behind its last block."""
        with torch.inference_mode():
            packing = state.context.packing
            if packing is not None:
                kept = tuple(map(packing.padded, self._kept(state)))
                state = state._replace(stream=packing.padded(state.stream), memory=kept)
            return self.network.end(state)

    def latest(self, state: State) -> Tensor:
        """The same of the last token alone, of further tokens of a text: (1, 1, vocabulary)."""
        with torch.inference_mode():
            memory = tuple(one[:, -1:] for one in state.memory)
            context = state.context
            mask = None if context.mask is None else context.mask[:, -1:]
            return self.network.end(State(state.stream[:, -1:], state.stage, memory, context._replace(mask=mask)))

    def run(self, state: State, past: Past | None = None) -> State:
        """The state behind the blocks, from that in front of them; of further tokens of a text, `past` is what was kept."""
        with torch.inference_mode():
            late: _Late | None = None
            for number, (i, j) in enumerate(self.span.blocks):
                if state.stage < i and late is not None:
                    state, late = late.added(), None
                with self.pool.at(number):
                    state = self.network.enter(state, i)
                    block = list(self.network.blocks(i))[j]
                    for at in block.sublayers(self.network.wiring(i)):
                        state, late = self._stepped(state, at, late, past)
                    if late is not None and self.pool.streamed:  # the sub-layer's norm and join are about to go
                        state, late = late.added(), None
            return state if late is None else late.added()

    def _stepped(self, state: State, at: Sublayer, late: _Late | None, past: Past | None) -> tuple[State, _Late | None]:
        """The state behind a sub-layer, or the sub-layer on its way; `late` is the one in front of it, if that is on its way."""
        x = None if late is None else at.wiring.ahead(late.before, at)
        if late is not None and x is None:
            state, late = late.added(), None
        y = self._computed(at, at.read(state) if x is None else x, state.context, past)
        if late is not None:
            state = late.added()
        if self.sums.alone:
            return at.add(state, at.joined(y, state)), None
        return state, _Late(state, at, self.sums.begun(y))

    def _computed(self, at: Sublayer, x: Tensor, context: Context, past: Past | None) -> Tensor:
        """What the operator gives, or this process's share of it."""
        operator, packing = at.operator, context.packing
        if past is not None:
            if at.prefix not in past:
                past[at.prefix] = tuple(x.new_zeros(1, *sized(shape, 1, 0)) for shape in operator.recalls.values())
            y, past[at.prefix] = operator.continued(x, past[at.prefix], context)
            return y
        if packing is None or operator.packs or operator.alone:
            found: Tensor = operator(x, context)
            return found
        return packing.packed(operator(packing.padded(x), context._replace(packing=None)))

    def _taken(self, given: Tensor, context: Context) -> State:
        return State(given[0], self._before[0], tuple(given[1:]), context)

    def _kept(self, state: State) -> tuple[Tensor, ...]:
        """What is read behind the last block of the part, beside the stream."""
        stage, block = self.span.blocks[-1] if self.span.blocks else (state.stage, 0)
        return state.memory[: self.network.wiring(stage).keeps(block)]

    @property
    def _before(self) -> Place:
        """The block that the part before ends with."""
        found = places(self.network.architecture)
        return found[found.index(self.span.blocks[0]) - 1]

    @property
    def _count(self) -> int:
        """How many tensors the part before hands on."""
        stage, block = self._before
        return 1 + self.network.wiring(stage).keeps(block)

    def _context(self, batch: Batch) -> Context:
        context = self.network.context(batch.mask)
        if context.mask is None or not self.packs or not any(batch.lengths or ()):
            return context
        return context._replace(packing=Packing(context.mask))

    def _moved(self, state: State, packing: Packing | None) -> State:
        if packing is None:
            return state
        memory: Sequence[Tensor] = [packing.packed(one) for one in state.memory]
        return state._replace(stream=packing.packed(state.stream), memory=tuple(memory))


def packable(network: Network) -> bool:
    """Whether padding can be left out between the sub-layers: of texts, in one stage whose norms look at tokens one by one."""
    a = network.architecture
    return a.input.usual_tokens is not None and len(a.stages) == 1 and all(at.norm.local for at in network.walk())
