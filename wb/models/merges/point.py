"""A change of width, of every token or of the mean of all.

Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.1: the last stage, whose pooling stands in front of the last
expansion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.merges import Point as Record
from wb.models.axes import read
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.planes import as_map
from wb.models.layers.tensors import ACTIVATIONS
from wb.models.merges.base import PREVIOUS, MergeModule


class Point(BatchNormed, MergeModule):
    """`activation(norm(point(x)))`, or `activation(point(mean of x) + point_bias)`."""

    record: Record
    point: nn.Parameter
    point_bias: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.activation = ACTIVATIONS[record.activation]
        self.holds("point", "embed", read(PREVIOUS), 1, 1)
        if record.pooled:
            self.holds("point_bias", "embed")
        else:
            self.norms("point", "embed")

    def reset(self) -> None:
        self.reset_convolutions()
        if self.record.pooled:
            nn.init.zeros_(self.point_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', its rows, its columns)."""
        x = as_map(x, self.layout)
        if self.record.pooled:
            return self.activation(F.conv2d(F.adaptive_avg_pool2d(x, 1), self.point, self.point_bias))
        return self.activation(self.convolved(x, "point"))
