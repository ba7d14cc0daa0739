"""Convolutional merging: a dense 3x3 convolution with stride 2.

Source: He et al., "Deep Residual Learning", 2016, section 3.3.
Differs: an activation only where the record has one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.merges import Conv3x3 as Record
from wb.models.axes import read
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.planes import as_map
from wb.models.layers.tensors import ACTIVATIONS
from wb.models.merges.base import PREVIOUS, MergeModule


class Conv3x3(BatchNormed, MergeModule):
    """A 3x3 convolution with stride 2 to the next width, with a norm."""

    conv: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.holds("conv", "embed", read(PREVIOUS), 3, 3)
        self.norms("conv", "embed")
        self.activation = None if record.activation is None else ACTIVATIONS[record.activation]

    def reset(self) -> None:
        self.reset_convolutions()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', rows/2, columns/2)."""
        y = self.convolved(as_map(x, self.layout), "conv", stride=2)
        return y if self.activation is None else self.activation(y)
