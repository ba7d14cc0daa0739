"""Patch merging by a convolution whose patches overlap.

Source: Yu et al., "MetaFormer Is Actually What You Need for Vision", 2022, the patch embeddings between stages,
https://arxiv.org/abs/2111.11418.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.merges import Overlapping as Record
from wb.models.axes import read
from wb.models.layers.planes import as_map
from wb.models.layers.tensors import uniform_
from wb.models.merges.base import PREVIOUS, MergeModule


class Overlapping(MergeModule):
    """A 3x3 convolution with stride 2, with zeros around the picture."""

    fitted = ("merge", "merge_bias")
    merge: nn.Parameter
    merge_bias: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.holds("merge", "embed", read(PREVIOUS), 3, 3)
        self.holds("merge_bias", "embed")

    def reset(self) -> None:
        uniform_(self.merge, self.merge[0].numel())
        nn.init.zeros_(self.merge_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', rows/2, columns/2)."""
        return F.conv2d(as_map(x, self.layout), self.merge, self.merge_bias, stride=2, padding=1)

    def inputs(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N', 9 D)."""
        return F.unfold(as_map(x, self.layout), 3, padding=1, stride=2).transpose(1, 2)
