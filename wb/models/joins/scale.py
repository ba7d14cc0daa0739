"""LayerScale.

Source: Touvron et al., "Going deeper with Image Transformers" (CaiT), 2021, eq. 7, https://arxiv.org/abs/2103.17239. With
`per="layer"` and `init=0` it is Bachlechner et al., "ReZero is All You Need", 2020, https://arxiv.org/abs/2003.04887.
Differs: ReZero has one factor for a block, here mixer and feed-forward have one each.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core import records
from wb.models.joins.base import JoinModule


class Scale(JoinModule):
    """`given * scale`, with `scale` of shape (D), or () for a factor per layer."""

    scales: ClassVar[bool] = True
    record: records.Scale

    def __init__(self, record: records.Scale, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        self.holds("scale", *(("embed",) if record.per == "channel" else ()))

    def reset(self) -> None:
        """Every factor begins at the record's `init`."""
        nn.init.constant_(self.scale, self.record.init)

    def forward(self, given: Tensor, stream: Tensor) -> Tensor:
        """(B, N, D), or a map (B, D, rows, columns) -> the same shape."""
        return given * (self.scale[:, None, None] if given.dim() == 4 and self.scale.dim() else self.scale)
