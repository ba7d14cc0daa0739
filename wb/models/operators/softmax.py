"""Multi-head self-attention.

Source: Vaswani et al., "Attention Is All You Need", 2017, eq. 1.
Differs: queries and keys may have other channels per head than values, and heads x channels need not equal the width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wb.core.records import Softmax
from wb.models.operators._attention import AttentionModule
from wb.models.operators._base import Grid, Symmetry


class SoftmaxAttention(AttentionModule):
    """`softmax(scale · q kᵀ) v`. Cost: N·D·H·(2K + 2V) + H·N²·(K + V) multiply-accumulates."""

    symmetries: ClassVar[dict[str, Symmetry]] = {"heads": "permutation", "qk": "rotation", "v": "rotation"}

    def __init__(self, record: Softmax, embed: int, grid: Grid, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, grid, device)
        self.scale = record.scale

    @property
    def convex(self) -> bool:
        return True

    def describe(self) -> Softmax:
        return Softmax.model_validate({**self.sizes, "scale": self.scale})

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scale = self.wq.shape[1] ** -0.5 if self.scale is None else self.scale
        return ((q * scale) @ k.transpose(-1, -2)).softmax(dim=-1) @ v
