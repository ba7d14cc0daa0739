"""Softmax attention with a bias for every distance.

Source: Dai et al., "CoAtNet", 2021, eq. 3, on a whole picture; the table of Liu et al., "Swin Transformer", 2021, section 3.2.
Limits: the table fixes the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.attention import Relative as Record
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.squares import biases, distances


class RelativeAttention(ScoredAttention):
    """`softmax(scale · q kᵀ + table[distance]) v`; the `table` (distances in rows, in columns, H) begins at zero."""

    table: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        rows, columns = layout.shape
        self.holds("table", 2 * rows - 1, 2 * columns - 1, "heads")
        self.distances = distances(rows, columns)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        scores = self.scores(q, k) + biases(self.table, self.distances)
        return scores.softmax(dim=-1) @ v
