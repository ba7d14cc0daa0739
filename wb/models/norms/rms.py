"""RMSNorm.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, eq. 4, https://arxiv.org/abs/1910.07467.
Differs: no shift, as in what the paper evaluates, and no partial statistic (pRMSNorm).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wb.core.records.norms import RmsNorm as Record
from wb.models.norms.base import NormModule


class RmsNorm(NormModule):
    """`x / sqrt(mean of squares + eps) * gain` over the channels of a token."""

    averaged: tuple[str, ...] = ("embed",)
    centred: ClassVar[bool] = False
    foldable: ClassVar[bool] = True

    def __init__(self, record: Record, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, device, shift=False)
        self.eps = record.eps

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=-1, keepdim=True) + self.eps).sqrt() * self.gain
