"""The fused bottleneck: the expansion and the depthwise convolution of an inverted one as a single dense convolution.

Source: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", 2021, Fused-MBConv.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.ffns import Fused as Record
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class Fused(BatchNormed, OperatorModule):
    """`down(activation(fused(x)))` on a map. `down` is shaped as in the inverted one, so that a supernet shares it."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    fused: nn.Parameter
    down: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.convolves("fused", "mlp")
        self.norms("fused", "mlp")
        self.writes("down", None, "mlp")
        self.norms("down", "embed")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, D, rows, columns) -> (B, M, rows, columns)."""
        return self.activation(self.convolved(x, "fused"))

    def written(self, hidden: Tensor) -> Tensor:
        return self.convolved(hidden, "down")
