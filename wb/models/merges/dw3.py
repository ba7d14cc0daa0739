"""Depthwise merging: a separable convolution with stride 2.

Source: Howard et al., "MobileNets", 2017, the depthwise separable convolution.
Differs: no activation, as it stands on the residual stream between two stages (RepViT's downsampling).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.merges import Dw3 as Record
from wb.models.axes import read, side
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.planes import as_map
from wb.models.merges.base import PREVIOUS, MergeModule


class Dw3(BatchNormed, MergeModule):
    """A convolution of each channel with stride 2, then a 1x1 one to the next width, each with a norm."""

    filters: nn.Parameter
    point: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.holds("filters", PREVIOUS, 1, side("kernel"), side("kernel"))
        self.norms("filters", PREVIOUS)
        self.holds("point", "embed", read(PREVIOUS), 1, 1)
        self.norms("point", "embed")

    def reset(self) -> None:
        self.reset_convolutions()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', rows/2, columns/2)."""
        y = self.convolved(as_map(x, self.layout), "filters", stride=2, groups=self.filters.shape[0])
        return self.convolved(y, "point")
