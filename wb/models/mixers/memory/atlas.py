"""ATLAS' neural memory: a small network that learns the last tokens together while it reads, by steps that are made orthogonal.

Source: Behrouz et al., "ATLAS: Learning to Optimally Memorize the Context at Test Time", 2025, https://arxiv.org/abs/2505.23735
(the authors published no code). Of every head the memory is M(k) = k + gelu(f(k) W1) W2 of keys and queries of length one, with
the polynomial features f(k) = (a_1 k, a_2 k ⊗ k), whose trained a begin with 1 and 1/√2: f(q)·f(k) then begins as exp(q·k) does.
Its weights W = (W1, W2) change by the Omega rule, which looks at the last `window` tokens, with momentum and Muon's step:

    S_t = keep_t S_{t-1} + grad_W sum_{t - window < i <= t} rate_i |M_W(k_i) - v_i|^2 at W_{t-1}
    W_t = (1 - fade_t) W_{t-1} - pace_t NS5(S_t)

from W_0, which is trained; rates, keeps, fades and paces are sigmoids of maps of the stream. NS5 are five steps
X <- a X + (b X X' + c (X X')^2) X of Newton and Schulz from X = S / |S|, for both matrices by themselves, with a, b and c of
Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. Token t reads M(q) by W_t. Then a gate for each
head, and W_o.
Differs: with a `chunk` above 1 the memory changes once a chunk, by the means of what its tokens say of keep, fade and pace, and
token t reads what is behind the last chunk that ends with it or before. The paper changes it for every token also there, with
gradients at where the chunk began, so that they are computed side by side. No features of a higher degree than two; a token's
rate is the same, whoever looks back at it. No convolutions of queries, keys and values, no norm at the end of a chunk, and no
gated memory (Atlas++). The gate is for a head, not for a channel.
Limits: what is in no complete chunk is read by nobody; padding is in none. One chunk is computed after the other, and a step of a
text learns a chunk, complete or not. W1 has C + C^2 rows with `polynomial`, and is made orthogonal with every chunk: heads of
many channels cost far more than all else. NS5 brings singular values near one, not to it, and amplifies what is next to nothing
in S up to 485 times. Hidden units more or less change how fast the others learn, so that pruning scores heads alone, and entries
twice are another function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Atlas as Record
from wb.models.layers.operator import Symmetry
from wb.models.mixers.memory.learning import LearningMemory, Weights, faded, uniformly

EPS = 1e-6  # of squared lengths of queries and keys
NORM = 1e-7  # of the lengths of what is made orthogonal
STEPS = 5
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonal(s: Tensor) -> Tensor:
    """NS5 of matrices (..., rows, columns): the same singular vectors with singular values near one."""
    x: Tensor = s / (torch.linalg.vector_norm(s, dim=(-2, -1), keepdim=True) + NORM)
    wide = x.shape[-2] <= x.shape[-1]
    for _ in range(STEPS):  # the smaller of the two products gives the same
        square = x @ x.mT if wide else x.mT @ x
        by = B * square + C * square @ square
        x = A * x + (by @ x if wide else x @ by)
    return x


def remembered(memory: Weights, powers: Tensor, x: Tensor) -> Tensor:
    """What memories (first, second, products if any) with powers (..., 2) give for queries or keys (..., T, C)."""
    first, second, *products = memory
    hidden = powers[..., 0, None, None] * x @ first
    for weight in products:
        pairs = (x[..., None] * x[..., None, :]).flatten(-2)
        hidden = hidden + powers[..., 1, None, None] * pairs @ weight.flatten(-3, -2)
    return x + F.gelu(hidden) @ second


def missed(memory: Weights, powers: Tensor, keys: Tensor, values: Tensor, rates: Tensor) -> Tensor:
    """By how much one memory misses the values (T, C) of keys (T, C), each weighed by its rate (T): a number."""
    return ((remembered(memory, powers, keys) - values).square().sum(dim=-1) * rates).sum()


_surprise = vmap(vmap(grad(missed)), in_dims=(0, None, 0, 0, 0))  # of every example and head


class OmegaMemory(LearningMemory):
    """Cost: N*D*H*(4C + 5), N*H*(P + C)*M to read, for each chunk window*H*(2P + 3C)*M to learn, and NS5 of P*M and M*C weights,
    where P, what the memory is given, is C + C^2 or, without `polynomial`, C."""

    record: Record
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "channels": "rotation", "hidden": "permutation"}
    told: tuple[str, ...] = ("rate", "keep", "fade", "pace")
    second: nn.Parameter
    powers: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.weights = ("first", "second", "products") if record.polynomial else ("first", "second")
        self.before = record.window - record.chunk

    def remembers(self) -> None:
        self.holds("powers", "heads", 2 if self.record.polynomial else 1)
        self.holds("first", "heads", "channels", "hidden")
        self.holds("second", "heads", "hidden", "channels")
        if self.record.polynomial:
            self.holds("products", "heads", "channels", "channels", "hidden")

    def reset(self) -> None:
        """Both matrices uniform in ±√(6/(rows + columns)), powers as of an exponential function."""
        super().reset()
        _, channels, hidden = self.first.shape
        rows = channels + channels**2 if self.record.polynomial else channels
        uniformly([getattr(self, name) for name in self.weights if name != "second"], rows, hidden)
        uniformly([self.second], hidden, channels)
        with torch.no_grad():
            for i, power in enumerate(self.powers.unbind(dim=1)):
                power.fill_(math.factorial(i + 1) ** -0.5)

    def shaped(self, y: Tensor) -> Tensor:
        """Of length one."""
        return y * (y.square().sum(dim=-1, keepdim=True) + EPS).rsqrt()

    def asked(self, memory: Weights, q: Tensor) -> Tensor:
        return remembered(memory, self.powers[:, None], q)

    def learned(self, windows: Tensor, memory: Weights, momentum: Weights) -> tuple[list[Weights], list[Weights]]:
        """Of each token key, value, rate, and what keeps, fades and paces are sigmoids of: (B, H, chunks, window, 2C + 4)."""
        channels = int(self.first.shape[1])
        keys, values, rates, numbers = windows.split([channels, channels, 1, 3], dim=-1)
        keeps, fades, paces = numbers[:, :, :, self.before :].mean(dim=3).sigmoid().unbind(dim=-1)  # (B, H, chunks)
        memories, momenta = [memory], [momentum]
        for c in range(int(keeps.shape[2])):
            surprise = _surprise(memory, self.powers, keys[:, :, c], values[:, :, c], rates[:, :, c, :, 0])
            momentum = faded(momentum, keeps[:, :, c], surprise, 1)
            memory = faded(memory, 1 - fades[:, :, c], _orthogonal(momentum), -paces[:, :, c])
            memories.append(memory)
            momenta.append(momentum)
        return memories, momenta


def _orthogonal(momentum: Weights) -> Weights:
    """Of the memory's two matrices; the products of channels are further rows of the first."""
    first, second, *products = momentum
    rows = int(first.shape[-2])
    both = orthogonal(torch.cat([first, *(one.flatten(-3, -2) for one in products)], dim=-2))
    rest = both[..., rows:, :]
    return (both[..., :rows, :], orthogonal(second), *(rest.unflatten(-2, (rows, rows)) for _ in products))
