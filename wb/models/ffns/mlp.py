"""The ordinary feed-forward: two linear layers with an activation between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class Mlp(OperatorModule):
    """`down(activation(up(x)))`; `gelu` is the exact one (erf), `gelu_tanh` its usual approximation."""

    divides: ClassVar[str | None] = "mlp"
    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}

    def __init__(
        self, record: records.Mlp, embed: int, layout: Layout, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.reads("up", "up_bias" if record.bias else None, "mlp")
        self.writes("down", "down_bias" if record.bias else None, "mlp")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        return self.activation(F.linear(x, self.kept("up"), self.bias("up")))
