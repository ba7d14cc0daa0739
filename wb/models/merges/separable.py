"""Merging by a separable convolution.

Source: Howard et al., "MobileNets", 2017, section 3.1; with gates, Howard et al., "Searching for MobileNetV3", 2019.
Differs: no activation behind the 1x1 convolution, which writes the residual stream.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.merges import SeparableMerge as Record
from wb.models.axes import read, side
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.excitation import Excited
from wb.models.layers.planes import as_map
from wb.models.layers.tensors import ACTIVATIONS
from wb.models.merges.base import PREVIOUS, MergeModule


class SeparableMerge(Excited, BatchNormed, MergeModule):
    """`point(activation(filters(x)))`, each with a norm; `filters` have a stride of 2."""

    record: Record
    filters: nn.Parameter
    point: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.between = ACTIVATIONS[record.activation]
        self.holds("filters", PREVIOUS, 1, side("kernel"), side("kernel"))
        self.norms("filters", PREVIOUS)
        self.excites(record.se, PREVIOUS)
        self.holds("point", "embed", read(PREVIOUS), 1, 1)
        self.norms("point", "embed")

    def reset(self) -> None:
        self.reset_convolutions()
        self.reset_gates()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', rows/2, columns/2)."""
        y = self.convolved(as_map(x, self.layout), "filters", stride=2, groups=self.filters.shape[0])
        return self.convolved(self.gated(self.between(y)), "point")
