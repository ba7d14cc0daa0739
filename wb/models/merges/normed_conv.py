"""Patch merging of ConvNeXt: every token is normalised, then a convolution makes one of 2x2.

Source: Liu et al., "A ConvNet for the 2020s", 2022, section 2.6, separate downsampling layers, https://arxiv.org/abs/2201.03545.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.merges import NormedConv as Record
from wb.models.axes import read
from wb.models.layers.operator import Symmetry
from wb.models.layers.planes import as_map, as_tokens
from wb.models.layers.tensors import patches, uniform_
from wb.models.merges.base import PREVIOUS, MergeModule


class NormedConv(MergeModule):
    """A layer norm of each token, and a 2x2 convolution with stride 2."""

    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = (PREVIOUS,)
    fitted = ("merge", "merge_bias")
    record: Record
    gain: nn.Parameter
    shift: nn.Parameter
    merge: nn.Parameter
    merge_bias: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.holds("gain", PREVIOUS)
        self.holds("shift", PREVIOUS)
        self.holds("merge", "embed", read(PREVIOUS), 2, 2)
        self.holds("merge_bias", "embed")

    def reset(self) -> None:
        nn.init.ones_(self.gain)
        uniform_(self.merge, self.merge[0].numel())
        for zeros in (self.shift, self.merge_bias):
            nn.init.zeros_(zeros)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', rows/2, columns/2)."""
        return F.conv2d(self._normed(x), self.merge, self.merge_bias, stride=2)

    def inputs(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N/4, 4 D)."""
        return patches(self._normed(x))

    def _normed(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D, rows, columns)."""
        y = F.layer_norm(as_tokens(x), self.gain.shape, self.gain, self.shift, self.record.eps)
        return as_map(y, self.layout)
