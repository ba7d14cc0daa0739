"""LayerNorm.

Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.norms.base import NormModule


class LayerNorm(NormModule):
    """`(x - mean) / sqrt(variance + eps) * gain + shift` over the channels of a token."""

    averaged: tuple[str, ...] = ("embed",)
    centred: ClassVar[bool] = True
    foldable: ClassVar[bool] = True
    shift: nn.Parameter

    def __init__(self, record: records.LayerNorm, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, device, shift=True)
        self.eps = record.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.gain.shape[0],), self.gain, self.shift, self.eps)
