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
Its successor ATLAS, which learns from the last few tokens together by an optimizer of second order, is `atlas`.
Limits: what is in no complete chunk is read by nobody; padding is in none. One chunk is computed after the other, and a step of a
text computes the gradients of a chunk, complete or not. A unit more or less changes how fast the others learn, so that pruning
scores heads alone, and entries twice are another function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from wb.core.records.mixers.memory import Titans as Record
from wb.models.layers.operator import Symmetry
from wb.models.mixers.memory.learning import LearningMemory, Weights, faded, uniformly

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


class NeuralMemory(LearningMemory):
    """Cost: N*D*H*(4C + 4), 5*N*H*C*M to learn, 2*N*H*C*M to read."""

    record: Record
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "channels": "permutation", "hidden": "permutation"}
    averaged: tuple[str, ...] = ("channels",)
    weights: tuple[str, ...] = ("first", "second", "gain")
    told: tuple[str, ...] = ("rate", "keep", "fade")
    second: nn.Parameter
    gain: nn.Parameter

    def remembers(self) -> None:
        self.holds("first", "heads", "channels", "hidden")
        self.holds("second", "heads", "hidden", "channels")
        self.holds("gain", "heads", "channels")

    def reset(self) -> None:
        """As published: the memory's weights uniform in ±√(6/(C + M)), its gain zero."""
        super().reset()
        _, channels, hidden = self.first.shape
        uniformly((self.first, self.second), channels, hidden)

    def asked(self, memory: Weights, q: Tensor) -> Tensor:
        return Memory(*memory)(q)

    def learned(self, windows: Tensor, memory: Weights, momentum: Weights) -> tuple[list[Weights], list[Weights]]:
        """Of each token key, value, rate, and what keeps and fades are sigmoids of: (B, H, chunks, T, 2C + 3)."""
        channels = int(self.gain.shape[1])
        keys, values, rates, keeps, fades = windows.split([channels, channels, 1, 1, 1], dim=-1)
        rates = rates[..., 0]
        keeps, fades = (y.mean(dim=(3, 4)).sigmoid() for y in (keeps, fades))  # (B, H, chunks)
        count = int(keeps.shape[2])
        if self.record.form == "official" and count:
            surprises = _surprises(Memory(self.first, self.second, self.gain), keys, values, rates)
        memories, momenta = [memory], [momentum]
        for c in range(count):
            if self.record.form == "official":
                surprise = tuple(weight[:, :, c] for weight in surprises)
            else:
                surprise = _surprise(Memory(*memory), keys[:, :, c], values[:, :, c], rates[:, :, c])
            momentum = faded(momentum, keeps[:, :, c], surprise, -1)
            memory = faded(memory, 1 - fades[:, :, c], momentum, 1)
            memories.append(memory)
            momenta.append(momentum)
        return memories, momenta
