"""Attention within windows.

Source: Liu et al., "Swin Transformer", 2021, section 3.2, https://arxiv.org/abs/2103.14030.
Differs: tokens that the shift made neighbours have -10000 added to their score, not -100, whose exponential is no normal number
in float32.
Limits: the sides of the picture are multiples of the window's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.attention import Window as Record
from wb.models.axes import side as side_of
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.squares import apart, biases, cut, distances, moved, uncut
from wb.models.layers.tensors import UNSEEN, constant


class WindowAttention(ScoredAttention):
    """`softmax(scale · q kᵀ + table[distance]) v` in every window.

    `table` is (distances in rows, in columns, H) and begins at zero. In shared weights that of a small window is the centre of
    a large one's.
    """

    table: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.side = layout.tile(record.window)
        self.squares = layout.tokens // self.side**2
        reach = 2 * self.side - 1
        self.holds("table", reach, reach, "heads")
        self.axes["table"] = (side_of("distances"), side_of("distances"), self.axes["table"][2])
        self.distances = distances(self.side, self.side)
        by = self.side // 2 if record.shift and self.side < min(layout.shape) else 0
        self.order = moved(layout.shape, self.side, by) if by else None
        self.unseen = apart(layout.shape, self.side, by) * UNSEEN if by else None

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H·V)."""
        shape, channels = self.layout.shape, int(x.shape[2])
        if self.order is None:
            return uncut(super().hidden(cut(x, shape, self.side), context), shape, self.side)
        order = self.order.to(x.device)
        windows = x.index_select(1, order).reshape(-1, self.side**2, channels)
        y = super().hidden(windows, context)
        return y.reshape(-1, self.layout.tokens, int(y.shape[2])).index_select(1, order.argsort())

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        scores, bias = self.scores(q, k), biases(self.table, self.distances)
        if self.unseen is not None:
            heads, tokens = (int(size) for size in scores.shape[1:3])
            every = bias + constant(self.unseen, bias)[:, None]  # (windows, H, tokens, tokens)
            scores = scores.reshape(-1, self.squares * heads, tokens, tokens) + every.flatten(0, 1)
            return scores.softmax(dim=-1).reshape(-1, heads, tokens, tokens) @ v
        return (scores + bias).softmax(dim=-1) @ v
