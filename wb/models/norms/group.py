"""GroupNorm of one group: all channels of all tokens of an example together.

Source: Wu and He, "Group Normalization", 2018, section 3.1, with one group, as Yu et al., "MetaFormer Is Actually What You Need
for Vision", 2022, have it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records.norms import GroupNorm as Record
from wb.models.layers.operator import Symmetry
from wb.models.norms.base import NormModule


class GroupNorm(NormModule):
    """`(x - mean) / sqrt(variance + eps) * gain + shift`, with one mean and one variance for each example."""

    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = ("embed",)
    centred: ClassVar[bool] = False  # a number added to all channels of one token moves the mean of all
    foldable: ClassVar[bool] = True
    local: ClassVar[bool] = False
    shift: nn.Parameter

    def __init__(self, record: Record, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, device, shift=True)
        self.eps = record.eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D), (B, D, rows, columns), or (B, D) -> the same shape."""
        if x.dim() == 2:  # the same, but not refused where a pruned stream has one channel
            return F.layer_norm(x, (self.gain.shape[0],), self.gain, self.shift, self.eps)
        if x.dim() != 3:
            return F.group_norm(x, 1, self.gain, self.shift, self.eps)
        return F.group_norm(x.transpose(1, 2), 1, self.gain, self.shift, self.eps).transpose(1, 2)
