"""Attention within mask units.

Source: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", 2023, section 3.2,
https://arxiv.org/abs/2306.00989.
Differs: tokens stay row by row; the published code keeps the tokens of a unit apart from the first stage on.
Limits: the sides of the picture are multiples of the unit's. No unit is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.attention import MaskUnit as Record
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.squares import cut, uncut


class MaskUnitAttention(ScoredAttention):
    """`softmax(scale · q kᵀ) v` in every unit."""

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.side = layout.tile(record.side)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H·V)."""
        shape = self.layout.shape
        return uncut(super().hidden(cut(x, shape, self.side), context), shape, self.side)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return self.scores(q, k).softmax(dim=-1) @ v
