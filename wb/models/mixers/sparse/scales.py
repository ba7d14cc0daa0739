"""Attention at several scales within regions.

Source: Tang et al., "DuoFormer: Leveraging Hierarchical Representations by Local and Global Attention", 2024,
https://arxiv.org/abs/2407.13920: the tokens of a region, which are of several scales, attend to each other; regions do not see
each other.
Differs: written from the formula (the authors' code carries no licence). The published tokens of other scales come from stages of
a convolutional network and stay in the stream; here the stream has the tokens of one scale, and those of the others are its
means, which are seen and do not see. Attention among regions, the published second half, is another block's.
Limits: the sides of the picture are multiples of the region's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import Scales as Record
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.squares import cut, uncut


class ScaleAttention(ScoredAttention):
    """`softmax(scale * q k^T) v` in every region of S^2 tokens. Cost: N*D*H*(2K + 2V) + H*N*S^2*(1 + 1/4 + 1/16 ...)*(K + V)."""

    record: Record

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.side = layout.tile(record.side)
        self.scales = next(n for n in range(record.scales, 0, -1) if self.side % 2 ** (n - 1) == 0)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*V)."""
        shape = self.layout.shape
        return uncut(super().hidden(cut(x, shape, self.side), context), shape, self.side)

    def tokens(self, x: Tensor) -> int:
        """Those of a region."""
        return self.side**2

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return self.scores(q, self._scaled(k)).softmax(dim=-1) @ self._scaled(v)

    def _scaled(self, y: Tensor) -> Tensor:
        """The tokens of every region and their means: (B, H, S^2, C) -> (B, H, S^2 + S^2/4 + ..., C)."""
        heads, channels = int(y.shape[1]), int(y.shape[3])
        found, side = [y], self.side
        for _ in range(1, self.scales):
            side //= 2
            cells = found[-1].reshape(-1, heads, side, 2, side, 2, channels)
            found.append(cells.mean(dim=(3, 5)).reshape(-1, heads, side * side, channels))
        return torch.cat(found, dim=2)
