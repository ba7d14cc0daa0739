"""The gate of GTrXL, a gated recurrent unit over depth.

Source: Parisotto et al., "Stabilizing Transformers for Reinforcement Learning", 2020, https://arxiv.org/abs/1910.06764, section
3.2, of the stream x and what the operator gives, y:

    r = σ(W_r y + U_r x)   z = σ(W_z y + U_z x - b)   h = tanh(W_h y + U_h (r ⊙ x))   x <- (1 - z) ⊙ x + z ⊙ h

Differs: written as what is added, z ⊙ (h - x), which is the same. `relu` is the ReLU that the paper has in front of the gate. The
paper's authors published no code; without `shifted` parameters are those of DI-engine, with it those of Transformers-RL, whose
biases of W and U are one here.
Limits: no weights can take it over, so that the stream bears permutations only, and what is fitted in closed form leaves the
writers in front of it as they are.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records import joins
from wb.models.axes import read
from wb.models.joins.base import JoinModule
from wb.models.layers.operator import Symmetry
from wb.models.layers.tensors import uniform_

GATES = ("reset", "update", "candidate")


class Gru(JoinModule):
    """`z * (h - x)`; of each gate the matrix of y is `<gate>_given`, that of x `<gate>_stream`, both (D, D)."""

    stream: ClassVar[Symmetry] = "permutation"
    record: joins.Gru
    shut: nn.Parameter

    def __init__(self, record: joins.Gru, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        for gate in GATES:
            self.holds(f"{gate}_given", "embed", read("embed"))
            self.holds(f"{gate}_stream", "embed", read("embed"))
        self.holds("shut", "embed")
        if record.shifted:
            self.holds("reset_bias", "embed")
            self.holds("candidate_bias", "embed")

    def reset(self) -> None:
        """Matrices as linear maps begin, biases zero, and the gate as far shut as the record says."""
        for name in self.axes:
            weight = self.get_parameter(name)
            if weight.dim() == 2:
                uniform_(weight, weight.shape[1])
            else:
                nn.init.zeros_(weight)
        nn.init.constant_(self.shut, self.record.shut)

    def forward(self, given: Tensor, stream: Tensor) -> Tensor:
        """(B, N, D) twice, or maps (B, D, rows, columns) -> the same shape."""
        if given.dim() == 4:
            return self._joined(given.permute(0, 2, 3, 1), stream.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self._joined(given, stream)

    def _joined(self, given: Tensor, stream: Tensor) -> Tensor:
        """The same with channels last."""
        y = given.relu() if self.record.relu else given
        reset = self._summed("reset", y, stream, self._bias("reset")).sigmoid()
        update = self._summed("update", y, stream, -self.shut).sigmoid()
        candidate = self._summed("candidate", y, reset * stream, self._bias("candidate")).tanh()
        return update * (candidate - stream)

    def _summed(self, gate: str, y: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """W y + U x + bias."""
        return F.linear(y, getattr(self, f"{gate}_given"), bias) + F.linear(x, getattr(self, f"{gate}_stream"))

    def _bias(self, gate: str) -> Tensor | None:
        return getattr(self, f"{gate}_bias") if self.record.shifted else None
