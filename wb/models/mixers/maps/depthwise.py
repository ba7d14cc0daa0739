"""Depthwise convolution as a mixer.

Source: Wang et al., "RepViT: Revisiting Mobile CNN From ViT Perspective", 2024, the token mixer RepVGGDW.
Differs: the branch of one place is a batch norm alone, as a factor in front of one changes nothing; the identity branch is the
residual connection of the block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.mixers import Depthwise as Record
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING, Context, OperatorModule


class Depthwise(BatchNormed, OperatorModule):
    """The sum of a convolution of each channel and of a factor for each channel, which outside of training are one."""

    filters: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.embed = embed
        self.filters_of("filters", "embed")
        self.norms("filters", "embed")
        self.norms("point", "embed")

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, D, rows, columns) -> the same shape."""
        y = self.convolved(x, "filters", groups=self.embed)
        return y if self.folded else y + self.normed(x, "point")

    def fold(self) -> None:
        super().fold()
        scale, shift = self.affine("point")
        centre = self.filters.shape[-1] // 2
        self.filters[:, 0, centre, centre] += scale
        self.get_parameter("filters_shift").add_(shift)

    def carry(self) -> None:
        if self.carries:
            return
        centre = self.filters.shape[-1] // 2
        self.filters[:, 0, centre, centre] += 1
        self.carries = True
