"""What mixers share whose memory learns while it reads: chunks of tokens, what waits for the next, and who reads what.

The weights of a memory change with every complete chunk of tokens. A token reads the memory behind the last chunk that ends with
it or before, so that it sees itself and those before it. Padding is in no chunk; what is in no complete chunk is read by nobody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Learning
from wb.models.layers.operator import Context, OperatorModule
from wb.models.layers.tensors import join_heads, project

Weights = tuple[Tensor, ...]  # of memories, or of their momenta: (B, H, ...) each


class LearningMemory(OperatorModule):
    """A memory of each head. Subclasses declare its weights, say in `learned` what these are after one chunk more, and in `asked`
    what they give.

    `weights` names them. `told` names the numbers that each token stores behind its key and value, of which the first is a rate,
    that of a token that is not there zero; `before` counts the tokens in front of a chunk that are learned once more with it.
    """

    record: Learning
    weights: tuple[str, ...]
    told: tuple[str, ...]
    before: int = 0
    first: nn.Parameter

    def __init__(self, record: Learning, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("wq", None, "heads", "channels")
        self.reads("wk", None, "heads", "channels")
        self.reads("wv", None, "heads", "channels")
        for name in self.told:
            self.reads(name, f"{name}_bias", "heads")
        # Nothing reads them: of entries that come twice, half of what is read would learn as the whole does.
        self.remembers()
        self.reads("gate", None, "heads")
        self.writes("wo", None, "heads", "channels")

    def remembers(self) -> None:
        """Declares the weights that the memory begins with."""
        raise NotImplementedError

    def learned(self, windows: Tensor, memory: Weights, momentum: Weights) -> tuple[list[Weights], list[Weights]]:
        """Memories and momenta before the first chunk and behind each, of what is told (B, H, chunks, before + chunk, ...)."""
        raise NotImplementedError

    def asked(self, memory: Weights, q: Tensor) -> Tensor:
        """What memories (..., *own) give for queries (..., T, C)."""
        raise NotImplementedError

    def shaped(self, y: Tensor) -> Tensor:
        """Queries or keys (B, H, N, C) as the memory is given them."""
        return y

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """How far memories are from where they began, their momenta, what the tokens of no complete chunk store, and what those
        before them stored that are learned once more with the next chunk."""
        sizes = {name: tuple(map(int, getattr(self, name).shape)) for name in self.weights}
        momenta = {f"{name}_momentum": size for name, size in sizes.items()}
        heads, channels = map(int, self.first.shape[:2])
        stored = 2 * channels + len(self.told)
        waiting = {"waiting": (heads, self.record.chunk, stored), "count": (1,)}
        history = {"history": (heads, self.before, stored)} if self.before else {}
        return {**sizes, **momenta, **waiting, **history}

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*C)."""
        q, told = self._projected(x)
        if context.mask is None:
            return self._gated(x, self.read(q, self._behind(told), *self._begun(len(x)))[0])
        order = _counting_first(context.mask)
        y, *_ = self.read(_picked(q, order), self._behind(_picked(told, order)), *self._begun(len(x)))
        return self._gated(x, _picked(y, order.argsort(dim=1)))

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Tokens of no complete chunk stand in front of the further ones; memories go on behind the last complete chunk."""
        q, told = self._projected(x)
        kinds = len(self.weights)
        length, (waiting, count, *history) = self.record.chunk, past[2 * kinds :]
        slots = torch.arange(length, device=x.device)
        mask = x.new_ones(x.shape[:2]) if context.mask is None else context.mask
        there = torch.cat([slots < count, mask.bool()], dim=1)
        order = _counting_first(there)
        q = torch.cat([torch.zeros_like(waiting[..., : q.shape[3]]), q], dim=2)
        q, told = (_picked(y, order) for y in (q, torch.cat([waiting, told], dim=2)))
        told = torch.cat([*history, told], dim=2)
        start, nothing = self._begun(len(x))
        memory = tuple(own + moved for own, moved in zip(start, past[:kinds], strict=True))
        y, memories, momenta = self.read(q, told, memory, tuple(past[kinds : 2 * kinds]))
        chunks = there.sum(dim=1) // length  # complete ones, of each example
        rows = torch.arange(len(x), device=x.device)
        behind = (*_stacked(memories), *_stacked(momenta))
        now = [one[rows, :, chunks] - own for one, own in zip(behind, start + nothing, strict=True)]
        left = there.sum(dim=1, keepdim=True) - length * chunks[:, None]
        ends = length * chunks[:, None]  # of the history
        history = [_picked(told, ends + torch.arange(self.before, device=x.device))] if self.before else []
        places = (self.before + ends + slots).clamp(max=told.shape[2] - 1)
        waiting = _picked(told, places) * (slots < left)[:, None, :, None]
        given = _picked(y, order.argsort(dim=1))[:, :, length:]
        return self.written(self._gated(x, given)), (*now, waiting, left.to(x.dtype), *history)

    def read(
        self, q: Tensor, told: Tensor, memory: Weights, momentum: Weights
    ) -> tuple[Tensor, list[Weights], list[Weights]]:
        """What queries (B, H, N, C) read of memories that go on learning; these and their momenta before and behind each chunk.

        `told` is what tokens store (B, H, before + N, 2C + …): keys, values, rates in 0 to 1, and maps of the stream.
        """
        length, tokens = self.record.chunk, int(q.shape[2])
        count = tokens // length
        windows = _windows(told, count, length, self.before + length)
        memories, momenta = self.learned(windows, memory, momentum)
        over = (count + 1) * length - tokens - 1
        before, behind = torch.zeros_like(q[:, :, :1]), torch.zeros_like(q[:, :, :1]).expand(-1, -1, over, -1)
        asked = torch.cat([before, q, behind], dim=2).unflatten(2, (count + 1, length))
        return self.asked(_stacked(memories), asked).flatten(2, 3)[:, :, 1 : tokens + 1], memories, momenta

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, and what is stored (`read`)."""
        q, k, v = (project(x, self.kept(name), None) for name in ("wq", "wk", "wv"))
        numbers = [F.linear(x, self.kept(n), self.bias(n)).transpose(1, 2)[..., None] for n in self.told]
        return self.shaped(q), torch.cat([self.shaped(k), v, numbers[0].sigmoid(), *numbers[1:]], dim=-1)

    def _behind(self, told: Tensor) -> Tensor:
        """The same behind as many places without a token as a chunk looks back: what is zero there weighs nothing."""
        return F.pad(told, (0, 0, self.before, 0)) if self.before else told

    def _gated(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, N, C) -> (B, N, H*C)."""
        gates = F.linear(x, self.kept("gate")).sigmoid().transpose(1, 2)  # (B, H, N)
        return join_heads(y * gates[..., None])

    def _begun(self, batch: int) -> tuple[Weights, Weights]:
        """The memories and momenta before the first token."""
        start = tuple(getattr(self, name).expand(batch, *getattr(self, name).shape) for name in self.weights)
        return start, tuple(map(torch.zeros_like, start))


def uniformly(weights: Sequence[Tensor], inputs: int, outputs: int) -> None:
    """Fills the weights uniformly in ±√(6/(inputs + outputs)), in place."""
    bound = math.sqrt(6 / (inputs + outputs))
    for weight in weights:
        nn.init.uniform_(weight, -bound, bound)


def faded(what: Weights, by: Tensor, other: Weights, scale: Tensor | float) -> Weights:
    """`by` (B, H) times the weights, and `scale`, a number or (B, H), times the others'."""
    return tuple(_each(by, one) * one + _each(scale, new) * new for one, new in zip(what, other, strict=True))


def _each(number: Tensor | float, like: Tensor) -> Tensor | float:
    return number[(...,) + (None,) * (like.dim() - 2)] if isinstance(number, Tensor) else number


def _windows(told: Tensor, count: int, step: int, size: int) -> Tensor:
    """So many windows, one `step` behind the other: (B, H, T, F) -> (B, H, count, size, F)."""
    if not count:
        return told[:, :, None, :0].expand(-1, -1, 0, -1, -1)
    return told[:, :, : (count - 1) * step + size].unfold(2, size, step).movedim(-1, 3)


def _stacked(memories: Sequence[Weights]) -> Weights:
    """One behind the other: (B, H, chunks + 1, ...)."""
    return tuple(torch.stack(one, dim=2) for one in zip(*memories, strict=True))


def _counting_first(mask: Tensor) -> Tensor:
    """The order (B, N) in which tokens that count come first, one after the other."""
    return (mask == 0).long().argsort(dim=1, stable=True)


def _picked(y: Tensor, places: Tensor) -> Tensor:
    """(B, H, N, C) at places (B, T) -> (B, H, T, C)."""
    return y.take_along_dim(places[:, None, :, None], dim=2)
