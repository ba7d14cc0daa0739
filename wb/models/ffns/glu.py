"""The gated linear unit: one linear layer gates another.

Source: Shazeer, "GLU Variants Improve Transformer", 2020, eq. 6: (activation(x W) ⊗ x V) W₂, without biases.
Differs: `bias` adds one to every linear layer; ReLU squared may gate as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import ffns
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class Glu(OperatorModule):
    """`down(activation(gate(x)) * up(x))`. `up` and `down` are called as in the two-layer one, so that a supernet shares them."""

    divides: ClassVar[str | None] = "mlp"
    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}

    def __init__(self, record: ffns.Glu, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.reads("gate", "gate_bias" if record.bias else None, "mlp")
        self.reads("up", "up_bias" if record.bias else None, "mlp")
        self.writes("down", "down_bias" if record.bias else None, "mlp")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        gate = self.activation(F.linear(x, self.kept("gate"), self.bias("gate")))
        return gate * F.linear(x, self.kept("up"), self.bias("up"))
