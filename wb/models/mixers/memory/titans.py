"""Titans' neural memory: a small network that learns, while it reads, to give values for keys.

Source: Behrouz et al., "Titans: Learning to Memorize at Test Time", 2024, https://arxiv.org/abs/2501.00663, in the form of the
package titans-pytorch (the authors published none). Of every head the memory is M(k) = k + LN(gelu(k W1) W2) (1 + gain), and its
weights W = (W1, W2, gain) change with every complete chunk c of tokens:

    G_c = grad_W sum_{t in c} rate_t mean_i (M_W(k_t) - v_t)_i^2,  S_c = keep_c S_{c-1} - G_c,  W_c = (1 - fade_c) W_{c-1} + S_c

from W_0, which is trained; rates, keeps and fades are sigmoids of maps of the stream, the last two of their means over a chunk.
Token t reads y = M(q) by the weights behind the last chunk that ends with it or before. A gate for each head, then W_o.
Differs: of the published norms in front, one for what is stored and one for what is read, there is the block's; the gate and W_o
are there with one head too. Gradients are at W_0 for all chunks, as published unless its `batch_size` is given; those at W_{c-1},
as in the paper, are the `form` "running".
ATLAS (Behrouz et al., 2025), which learns from the last few tokens together by an optimizer of second order, is not here: its
authors published no code to compare with.
Limits: what is in no complete chunk is read by nobody; padding is in none. One chunk is computed after the other, and a step of a
text computes the gradients of a chunk, complete or not. A unit more or less changes how fast the others learn, so that pruning
scores heads alone, and entries twice are another function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Titans as Record
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import join_heads, project

EPS = 1e-5  # of the memory's norm


class Memory(NamedTuple):
    """The weights of memories: (..., C, M), (..., M, C) and (..., C)."""

    first: Tensor
    second: Tensor
    gain: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """What they give for keys or queries: (..., T, C) -> (..., T, C)."""
        y = F.gelu(x @ self.first) @ self.second
        return x + F.layer_norm(y, (int(x.shape[-1]),), eps=EPS) * (1 + self.gain[..., None, :])


def missed(memory: Memory, keys: Tensor, values: Tensor, rates: Tensor) -> Tensor:
    """By how much one memory misses the values (T, C) of keys (T, C), each weighed by its rate (T): a number."""
    return ((memory(keys) - values).square().mean(dim=-1) * rates).sum()


# Of every example, head and chunk: with memories (H, ...) for all chunks of all examples, or (B, H, ...) for one chunk.
_surprises = vmap(vmap(vmap(grad(missed), in_dims=(None, 0, 0, 0)), in_dims=(0, 0, 0, 0)), in_dims=(None, 0, 0, 0))
_surprise = vmap(vmap(grad(missed)))


class NeuralMemory(OperatorModule):
    """Cost: N*D*H*(4C + 4), 5*N*H*C*M to learn, 2*N*H*C*M to read."""

    record: Record
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "channels": "permutation", "hidden": "permutation"}
    averaged: tuple[str, ...] = ("channels",)
    first: nn.Parameter
    second: nn.Parameter
    gain: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("wq", None, "heads", "channels")
        self.reads("wk", None, "heads", "channels")
        self.reads("wv", None, "heads", "channels")
        for name in ("rate", "keep", "fade"):
            self.reads(name, f"{name}_bias", "heads")
        # Nothing reads them: of entries that come twice, half of what is read would learn as the whole does.
        self.holds("first", "heads", "channels", "hidden")
        self.holds("second", "heads", "hidden", "channels")
        self.holds("gain", "heads", "channels")
        self.reads("gate", None, "heads")
        self.writes("wo", None, "heads", "channels")

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """How far memories are from where they began, their momenta, and what the tokens of no complete chunk store."""
        heads, channels, hidden = self.first.shape
        sizes = {"first": (heads, channels, hidden), "second": (heads, hidden, channels), "gain": (heads, channels)}
        momenta = {f"{name}_momentum": size for name, size in sizes.items()}
        waiting = {"waiting": (heads, self.record.chunk, 2 * channels + 3), "count": (1,)}
        return {**sizes, **momenta, **waiting}

    def reset(self) -> None:
        """As published: the memory's weights uniform in ±√(6/(C + M)), its gain zero."""
        super().reset()
        _, channels, hidden = self.first.shape
        bound = math.sqrt(6 / (channels + hidden))
        for weight in (self.first, self.second):
            nn.init.uniform_(weight, -bound, bound)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*C)."""
        q, told = self._projected(x)
        if context.mask is None:
            return self._gated(x, self.read(q, told, *self._begun(len(x)))[0])
        order = _counting_first(context.mask)
        y, *_ = self.read(_picked(q, order), _picked(told, order), *self._begun(len(x)))
        return self._gated(x, _picked(y, order.argsort(dim=1)))

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Tokens of no complete chunk stand in front of the further ones; memories go on behind the last complete chunk."""
        q, told = self._projected(x)
        length, (waiting, count) = self.record.chunk, past[6:]
        slots = torch.arange(length, device=x.device)
        mask = x.new_ones(x.shape[:2]) if context.mask is None else context.mask
        there = torch.cat([slots < count, mask.bool()], dim=1)
        order = _counting_first(there)
        q = torch.cat([torch.zeros_like(waiting[..., : q.shape[3]]), q], dim=2)
        q, told = (_picked(y, order) for y in (q, torch.cat([waiting, told], dim=2)))
        start, nothing = self._begun(len(x))
        memory = Memory(*(own + moved for own, moved in zip(start, past[:3], strict=True)))
        y, memories, momenta = self.read(q, told, memory, Memory(*past[3:6]))
        chunks = there.sum(dim=1) // length  # complete ones, of each example
        rows = torch.arange(len(x), device=x.device)
        behind = (*_stacked(memories), *_stacked(momenta))
        now = [one[rows, :, chunks] - own for one, own in zip(behind, start + nothing, strict=True)]
        left = there.sum(dim=1, keepdim=True) - length * chunks[:, None]
        places = (length * chunks[:, None] + slots).clamp(max=told.shape[2] - 1)
        waiting = _picked(told, places) * (slots < left)[:, None, :, None]
        given = _picked(y, order.argsort(dim=1))[:, :, length:]
        return self.written(self._gated(x, given)), (*now, waiting, left.to(x.dtype))

    def read(
        self, q: Tensor, told: Tensor, memory: Memory, momentum: Memory
    ) -> tuple[Tensor, list[Memory], list[Memory]]:
        """What queries (B, H, N, C) read of memories that go on learning; these and their momenta before and behind each chunk.

        `told` is what tokens store (B, H, N, 2C + 3): keys, values, and what rates, keeps and fades are sigmoids of.
        """
        length, tokens = self.record.chunk, int(q.shape[2])
        count = tokens // length
        chunks = told[:, :, : count * length].unflatten(2, (count, length))
        memories, momenta = self._learned(chunks, memory, momentum)
        over = (count + 1) * length - tokens - 1
        before, behind = torch.zeros_like(q[:, :, :1]), torch.zeros_like(q[:, :, :1]).expand(-1, -1, over, -1)
        asked = torch.cat([before, q, behind], dim=2).unflatten(2, (count + 1, length))
        return _stacked(memories)(asked).flatten(2, 3)[:, :, 1 : tokens + 1], memories, momenta

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, and what is stored (`read`)."""
        q, k, v = (project(x, self.kept(name), None) for name in ("wq", "wk", "wv"))
        numbers = [F.linear(x, self.kept(n), self.bias(n)).transpose(1, 2)[..., None] for n in ("rate", "keep", "fade")]
        return q, torch.cat([k, v, *numbers], dim=-1)

    def _gated(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, N, C) -> (B, N, H*C)."""
        gates = F.linear(x, self.kept("gate")).sigmoid().transpose(1, 2)  # (B, H, N)
        return join_heads(y * gates[..., None])

    def _begun(self, batch: int) -> tuple[Memory, Memory]:
        """The memories and momenta before the first token."""
        start = Memory(*(weight.expand(batch, *weight.shape) for weight in (self.first, self.second, self.gain)))
        return start, Memory(*map(torch.zeros_like, start))

    def _learned(self, told: Tensor, memory: Memory, momentum: Memory) -> tuple[list[Memory], list[Memory]]:
        """Memories and momenta before the first of the chunks (B, H, chunks, T, 2C + 3), and behind each."""
        channels = int(self.gain.shape[1])
        keys, values, rates, keeps, fades = told.split([channels, channels, 1, 1, 1], dim=-1)
        rates = rates[..., 0].sigmoid()
        keeps, fades = (y.mean(dim=(3, 4)).sigmoid() for y in (keeps, fades))  # (B, H, chunks)
        count = int(keeps.shape[2])
        if self.record.form == "official" and count:
            surprises = _surprises(Memory(self.first, self.second, self.gain), keys, values, rates)
        memories, momenta = [memory], [momentum]
        for c in range(count):
            if self.record.form == "official":
                surprise = Memory(*(weight[:, :, c] for weight in surprises))
            else:
                surprise = _surprise(memory, keys[:, :, c], values[:, :, c], rates[:, :, c])
            momentum = _faded(momentum, keeps[:, :, c], surprise, -1)
            memory = _faded(memory, 1 - fades[:, :, c], momentum, 1)
            memories.append(memory)
            momenta.append(momentum)
        return memories, momenta


def _stacked(memories: Sequence[Memory]) -> Memory:
    """One behind the other: (B, H, chunks + 1, ...)."""
    return Memory(*(torch.stack(one, dim=2) for one in zip(*memories, strict=True)))


def _counting_first(mask: Tensor) -> Tensor:
    """The order (B, N) in which tokens that count come first, one after the other."""
    return (mask == 0).long().argsort(dim=1, stable=True)


def _picked(y: Tensor, places: Tensor) -> Tensor:
    """(B, H, N, C) at places (B, T) -> (B, H, T, C)."""
    return y.take_along_dim(places[:, None, :, None], dim=2)


def _faded(what: Memory, by: Tensor, other: Memory, sign: int) -> Memory:
    """`by` (B, H) times the weights, and the others' added."""
    pairs = zip(what, other, strict=True)
    return Memory(*(by[(...,) + (None,) * (one.dim() - 2)] * one + sign * new for one, new in pairs))
