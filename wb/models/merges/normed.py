"""Patch merging: 2x2 neighbouring tokens side by side, normalised together, become one token of the next stage's width.

Source: Liu et al., "Swin Transformer", 2021, section 3.1, patch merging, https://arxiv.org/abs/2103.14030.
Differs: nothing but the order of the four tokens, which is that of a convolution's kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.merges import NormedMerge as Record
from wb.models.axes import read
from wb.models.layers.operator import Symmetry
from wb.models.layers.planes import as_tokens
from wb.models.layers.tensors import uniform_
from wb.models.merges.base import PREVIOUS, MergeModule


class NormedMerge(MergeModule):
    """`W LayerNorm([x at the four places])`, with gain and shift for each channel at each of the four, and no bias."""

    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = (PREVIOUS,)
    outputs: Mapping[str, int] = {"merge": 1}
    record: Record
    gain: nn.Parameter
    shift: nn.Parameter
    merge: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.holds("gain", PREVIOUS, 2, 2)
        self.holds("shift", PREVIOUS, 2, 2)
        self.holds("merge", "embed", read(PREVIOUS), 2, 2)

    def reset(self) -> None:
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.shift)
        uniform_(self.merge, self.merge[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, N/4, D')."""
        rows, columns = (length // 2 for length in self.layout.shape)
        x = as_tokens(x)
        width = int(x.shape[2])
        x = x.reshape(-1, rows, 2, columns, 2, width).permute(0, 1, 3, 5, 2, 4).reshape(-1, rows * columns, 4 * width)
        x = F.layer_norm(x, (4 * width,), self.gain.flatten(), self.shift.flatten(), self.record.eps)
        return F.linear(x, self.merge.flatten(1))
