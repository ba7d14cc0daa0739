"""BatchNorm in front of an operator.

Source: Ioffe and Szegedy, "Batch Normalization", 2015.
Differs: see `wb.models.layers.convolution`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wb.core.records.norms import BatchNorm as Record
from wb.models.layers.convolution import BatchNormed
from wb.models.norms.base import NormModule


class BatchNorm(BatchNormed, NormModule):
    """`(x - mean) / sqrt(variance + eps) * gain + shift`, each per channel."""

    centred: ClassVar[bool] = False
    foldable: ClassVar[bool] = True

    def __init__(self, record: Record, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, device, shift=True)
        self.eps = record.eps
        self.finds("", "embed")

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D), (B, D, rows, columns), or (rows, D) -> the same shape."""
        if x.dim() != 3:
            return self.normed(x, "", self.eps)
        return self.normed(x.transpose(1, 2), "", self.eps).transpose(1, 2)
