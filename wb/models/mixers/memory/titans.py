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
Limits: what is in no complete chunk is read by nobody. It looks back alone, but has no form for lengths that vary, for padding or
token by token, so that networks of texts do not take it. One chunk is computed after the other. A unit more or less changes how
fast the others learn, so that pruning scores heads alone, and entries twice are another function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    def alone(self) -> bool:
        """No: the memory is of all tokens so far."""
        return False

    def reset(self) -> None:
        """As published: the memory's weights uniform in ±√(6/(C + M)), its gain zero."""
        super().reset()
        _, channels, hidden = self.first.shape
        bound = math.sqrt(6 / (channels + hidden))
        for weight in (self.first, self.second):
            nn.init.uniform_(weight, -bound, bound)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*C)."""
        q, k, v = (project(x, self.kept(name), None) for name in ("wq", "wk", "wv"))
        rates, keeps, fades = (
            F.linear(x, self.kept(n), self.bias(n)).transpose(1, 2) for n in ("rate", "keep", "fade")
        )
        y = self.remembered(q, k, v, rates.sigmoid(), keeps, fades)
        gates = F.linear(x, self.kept("gate")).sigmoid().transpose(1, 2)  # (B, H, N)
        return join_heads(y * gates[..., None])

    def remembered(self, q: Tensor, k: Tensor, v: Tensor, rates: Tensor, keeps: Tensor, fades: Tensor) -> Tensor:
        """What queries read, of keys and values (B, H, N, C), rates, and what keeps and fades are sigmoids of, (B, H, N)."""
        length = self.record.chunk
        count = int(q.shape[2]) // length
        stored = [y[:, :, : count * length].unflatten(2, (count, length)) for y in (k, v, rates, keeps, fades)]
        keys, values, rates = stored[:3]
        keeps, fades = (y.mean(dim=3).sigmoid() for y in stored[3:])  # (B, H, count)
        found = self._learned(keys, values, rates, keeps, fades)
        over = (count + 1) * length - int(q.shape[2]) - 1
        before, behind = torch.zeros_like(q[:, :, :1]), torch.zeros_like(q[:, :, :1]).expand(-1, -1, over, -1)
        asked = torch.cat([before, q, behind], dim=2).unflatten(2, (count + 1, length))
        return found(asked).flatten(2, 3)[:, :, 1 : int(q.shape[2]) + 1]

    def _learned(self, keys: Tensor, values: Tensor, rates: Tensor, keeps: Tensor, fades: Tensor) -> Memory:
        """The memories before the first chunk and behind each: (B, H, chunks + 1, ...)."""
        batch, _, count = keeps.shape
        start = Memory(self.first, self.second, self.gain)
        if self.record.form == "official" and count:
            surprises = _surprises(start, keys, values, rates)
        memory = Memory(*(weight.expand(batch, *weight.shape) for weight in start))
        all_of, momentum = [memory], Memory(*map(torch.zeros_like, memory))
        for c in range(count):
            if self.record.form == "official":
                surprise = Memory(*(weight[:, :, c] for weight in surprises))
            else:
                surprise = _surprise(memory, keys[:, :, c], values[:, :, c], rates[:, :, c])
            momentum = _faded(momentum, keeps[:, :, c], surprise, -1)
            memory = _faded(memory, 1 - fades[:, :, c], momentum, 1)
            all_of.append(memory)
        return Memory(*(torch.stack(one, dim=2) for one in zip(*all_of, strict=True)))


def _faded(what: Memory, by: Tensor, other: Memory, sign: int) -> Memory:
    """`by` (B, H) times the weights, and the others' added."""
    pairs = zip(what, other, strict=True)
    return Memory(*(by[(...,) + (None,) * (one.dim() - 2)] * one + sign * new for one, new in pairs))
