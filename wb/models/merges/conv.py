"""Patch merging: 2x2 neighbouring tokens become one token of the next stage's width.

Source: Liu et al., "Swin Transformer", 2021, patch merging.
Differs: one 2x2 convolution with bias instead of concatenation, norm and a linear layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.axes import read
from wb.models.layers.planes import as_map
from wb.models.layers.tensors import patches, uniform_
from wb.models.merges.base import PREVIOUS, MergeModule


class Merge(MergeModule):
    """A 2x2 convolution with stride 2 on tokens that lie as in `layout`."""

    fitted = ("merge", "merge_bias")
    merge: nn.Parameter
    merge_bias: nn.Parameter

    def __init__(
        self,
        record: records.Conv2x2,
        embed: int,
        layout: Layout,
        next_embed: int,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.holds("merge", "embed", read(PREVIOUS), 2, 2)
        self.holds("merge_bias", "embed")

    def reset(self) -> None:
        uniform_(self.merge, self.merge[0].numel())
        nn.init.zeros_(self.merge_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', rows/2, columns/2)."""
        return F.conv2d(as_map(x, self.layout), self.merge, self.merge_bias, stride=2)

    def inputs(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N/4, 4 D)."""
        return patches(as_map(x, self.layout))
