"""Re-parameterized batch norm.

Source: Guo et al., "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch
Normalization", 2024, eq. 4, https://arxiv.org/abs/2405.11582: RepBN(x) = BN(x) + alpha x, alpha one at first.
Differs: written from the formula (the authors' code carries no licence); statistics as in `wb.models.layers.convolution`. The
layer norm that gives way to it in training (PRepBN, eq. 5) has the same gain and shift, so that it is no part of the network.
Limits: with alpha its factor is no longer the gain, which fusion therefore does not fold into readers; export does.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records.norms import RepNorm as Record
from wb.models.layers.convolution import EPSILON, BatchNormed
from wb.models.norms.base import NormModule


class RepNorm(BatchNormed, NormModule):
    """`(x - mean) / sqrt(variance + eps) * gain + shift + alpha * x`; alpha is one number."""

    centred: ClassVar[bool] = False
    foldable: ClassVar[bool] = False
    alpha: nn.Parameter
    shift: nn.Parameter
    layered = 0.0
    """In training: the share of a layer norm that gives way to it, of tokens (`wb.training.recipes.layered`)."""

    def __init__(self, record: Record, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, device, shift=True)
        self.eps = record.eps
        self.holds("alpha")
        self.finds("", "embed")

    def reset(self) -> None:
        super().reset()
        nn.init.ones_(self.alpha)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D), (B, D, rows, columns), or (rows, D) -> the same shape."""
        if x.dim() != 3:
            return self.normed(x, "", self.eps)
        given = self.normed(x.transpose(1, 2), "", self.eps).transpose(1, 2)
        if not (self.training and self.layered):
            return given
        return torch.lerp(given, F.layer_norm(x, self.gain.shape, self.gain, self.shift, self.eps), self.layered)

    def affine(self, name: str, eps: float = EPSILON) -> tuple[Tensor, Tensor]:
        scale, shift = super().affine(name, eps)
        return scale + self.alpha, shift

    def _by_batch(self, y: Tensor, name: str, eps: float) -> Tensor:
        return super()._by_batch(y, name, eps) + self.alpha * y
