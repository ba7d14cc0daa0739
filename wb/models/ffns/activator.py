"""Activator's gating unit.

Source: Abdullah and Aydin, "Activator: GLU Activation Function as the Core Component of a Vision Transformer", 2024,
https://arxiv.org/abs/2405.15953, and the published code: LN(GELU(W1 x)) * LN(W2 x), then W3, the layer norm the same for both.
Differs: in the published block this unit and a perceptron behind it read the stream through one norm; here every sub-layer has
its own, and with equal norms the two are the same function.
Limits: the published block has no other operator, so that a network of it mixes tokens at its ends only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import Activator as Record
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class Activator(OperatorModule):
    """`down(LN(activation(gate(x))) * LN(up(x)))`, its linear maps shaped and called as those of the gated linear unit."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    averaged: tuple[str, ...] = ("mlp",)
    record: Record
    inner_gain: nn.Parameter
    inner_shift: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.reads("gate", "gate_bias", "mlp")
        self.reads("up", "up_bias", "mlp")
        self.holds("inner_gain", "mlp")
        self.holds("inner_shift", "mlp")
        self.writes("down", "down_bias", "mlp")

    def reset(self) -> None:
        super().reset()
        nn.init.ones_(self.inner_gain)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        gate = self.activation(F.linear(x, self.kept("gate"), self.bias("gate")))
        return self._normed(gate) * self._normed(F.linear(x, self.kept("up"), self.bias("up")))

    def _normed(self, y: Tensor) -> Tensor:
        return F.layer_norm(y, (self.inner_gain.shape[0],), self.inner_gain, self.inner_shift, self.record.eps)
