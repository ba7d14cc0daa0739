"""Legendre memory unit of spikes.

Source: Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units", 2024,
https://arxiv.org/abs/2402.04882, and the published code (`SLMUMs` with `SpikingLMUFFTCell`), N(.) a batch norm:

    s = F(N(x)), u = F(N(w_u s)), m = F(N(memory of u)), h = F(N(W_m m + W_x s)), output N(W_o h),

F a leaky neuron along the tokens: v <- v + (y - v) / 2, a spike where v reaches the threshold, and v = 0 behind a spike. The
threshold is 1/2 for s and 1 for the others. The gradient of a spike is that of sigmoid(4 (v - threshold)), and none flows through
the reset.
Differs: no biases, which the norms behind make idle. The memory is that of `lmu.py`, a convolution. `step` computes it token by
token and gives the same; the published recurrence leaves out what the neurons keep.
Limits: a neuron cannot look ahead, so that tokens see those before them only; graphs have some nodes for each token and neuron.
Rounding may change a spike. Kept in floating point; `memory` is no axis: fusion does not align it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.memory import SpikingLmu as Record
from wb.models.axes import read
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING, Context, OperatorModule, Symmetry
from wb.models.layers.tensors import constant
from wb.models.mixers.memory.lmu import discretised, impulse_response

HALF, ONE = 0.5, 1.0  # thresholds
SLOPE = 4.0  # of the sigmoid whose gradient spikes have
ASIDE = ("seen", "remembered")  # norms of what no weight gives


class SpikingMemory(BatchNormed, OperatorModule):
    """Cost: N*(D + 2*D*H + M*H) + N^2*M multiply-accumulates, all of them with a factor of zero or one."""

    jumps: ClassVar[bool] = True
    symmetries: Mapping[str, Symmetry] = {"hidden": "permutation"}
    record: Record
    recall: nn.Parameter
    sense: nn.Parameter
    fired_shift: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.impulse = impulse_response(record.memory, layout.tokens, float(layout.tokens))[:, None, :]  # (M, 1, N)
        self.norms("seen", "embed")
        self.between("pulse", 1, read("embed"))
        self.norms("pulse", 1)
        self.norms("remembered", record.memory)
        self.between("recall", "hidden", record.memory)
        self.between("sense", "hidden", read("embed"))
        self.norms("fired", "hidden")
        self.between("told", "embed", read("hidden"))
        self.norms("told", "embed")

    @property
    def inside(self) -> tuple[str, ...]:
        """What reads the spikes of the stream."""
        return ("pulse", "sense")

    @property
    def scaling(self) -> tuple[str, ...]:
        """Gain and shift of the last norm."""
        return ("told_gain", "told_shift")

    @property
    def additions(self) -> int:
        """All: what is multiplied is there or not."""
        memory, _, tokens = self.impulse.shape
        weights = (self.get_parameter(name).numel() for name in self.inner)
        return self.layout.tokens * (sum(weights) + memory * tokens)

    def fan_in(self, name: str) -> int:
        if name in ("recall", "sense"):  # their outputs are summed
            return int(self.recall.shape[1] + self.sense.shape[1])
        return super().fan_in(name)

    def fold(self) -> None:
        """The norm of the hidden units goes to both of their weights."""
        scale, shift = self.affine("fired")
        for weight in (self.recall, self.sense):
            weight.mul_(scale[:, None])
        self.fired_shift.copy_(shift)
        super().fold()

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        seen = fired(self._normed(x, "seen"), HALF)
        pulses = fired(self._normed(F.linear(seen, self.kept("pulse")), "pulse"), ONE)
        remembered = fired(self._normed(self._memory(pulses), "remembered"), ONE)
        return self._told(fired(self._hidden(remembered, seen), ONE))

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first token: what the neurons of s, u, m and h have, (B, their number), and the memory (B, M)."""
        like, sizes = self.recall, (self.sense.shape[1], 1, self.record.memory, self.recall.shape[0])
        return tuple(like.new_zeros(batch, size) for size in (*sizes, self.record.memory))

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What it gives for the next token (B, D), and the state behind it; for as many tokens as one likes."""
        of_seen, of_pulse, of_memory, of_hidden, memory = state
        a, b = (constant(torch.from_numpy(m), x) for m in discretised(self.record.memory, float(self.layout.tokens)))
        seen, of_seen = charged(self._normed(x[:, None], "seen")[:, 0], of_seen, HALF)
        given = self._normed(F.linear(seen, self.kept("pulse"))[:, None], "pulse")[:, 0]
        pulse, of_pulse = charged(given, of_pulse, ONE)
        memory = memory @ a.T + pulse @ b.T
        remembered, of_memory = charged(self._normed(memory[:, None], "remembered")[:, 0], of_memory, ONE)
        hidden, of_hidden = charged(self._hidden(remembered[:, None], seen[:, None])[:, 0], of_hidden, ONE)
        return self._told(hidden[:, None])[:, 0], (of_seen, of_pulse, of_memory, of_hidden, memory)

    def _memory(self, pulses: Tensor) -> Tensor:
        """What the memory has at each token: (B, N, 1) -> (B, N, M)."""
        u = pulses.transpose(1, 2)
        impulse = constant(self.impulse, u)
        return F.conv1d(torch.cat([torch.zeros_like(u)[:, :, 1:], u], dim=2), impulse.flip(2)).transpose(1, 2)

    def _hidden(self, remembered: Tensor, seen: Tensor) -> Tensor:
        """What the hidden neurons are given: (B, N, M), (B, N, D) -> (B, N, H)."""
        return self._normed(F.linear(remembered, self.kept("recall")) + F.linear(seen, self.kept("sense")), "fired")

    def _told(self, hidden: Tensor) -> Tensor:
        return self._normed(F.linear(hidden, self.kept("told")), "told")

    def _normed(self, y: Tensor, name: str) -> Tensor:
        """A batch norm of tokens (B, N, C); of one that weights have taken over, its shift."""
        if self.folded and name not in ASIDE:
            shifted: Tensor = y + getattr(self, f"{name}_shift")
            return shifted
        return self.normed(y.transpose(1, 2), name).transpose(1, 2)


def fired(y: Tensor, threshold: float) -> Tensor:
    """Spikes of neurons that are given y (B, N, C), token by token: ones and zeros (B, N, C)."""
    found, charge = list[Tensor](), torch.zeros_like(y[:, 0])
    for given in y.unbind(1):
        spikes, charge = charged(given, charge, threshold)
        found.append(spikes)
    return torch.stack(found, dim=1)


def charged(given: Tensor, charge: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Spikes of neurons with that charge once they are given more, and the charge behind them: (B, C) each."""
    charge = charge + (given - charge) / 2
    spikes = (charge >= threshold).to(charge)
    left = charge * (1 - spikes)
    if charge.requires_grad:
        soft = torch.sigmoid(SLOPE * (charge - threshold))
        spikes = spikes + (soft - soft.detach())  # the value stays, the gradient is that of `soft`
    return spikes, left
