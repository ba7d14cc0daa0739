"""Multi-head self-attention.

Source: Vaswani et al., "Attention Is All You Need", 2017, eq. 1.
Differs: queries and keys may have other channels per head than values, and heads x channels need not equal the width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Softmax
from wb.models.mixers.attention import AttentionModule
from wb.models.operator import Context, Symmetry


class SoftmaxAttention(AttentionModule):
    """`softmax(scale · q kᵀ) v`. Cost: N·D·H·(2K + 2V) + H·N²·(K + V) multiply-accumulates."""

    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "rotation", "v": "rotation"}

    def __init__(self, record: Softmax, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device, bias=record.bias)
        self.scale = record.scale

    @property
    def convex(self) -> bool:
        return True

    @property
    def idle(self) -> tuple[str, ...]:
        return ("bk",) if "bk" in self.axes else ()

    @property
    def factors(self) -> Mapping[str, float]:
        root = abs(self.record.factor) ** 0.5
        signed = math.copysign(root, self.record.factor)
        shared = {"wq": signed, "bq": signed, "wk": root, "bk": root}
        return {name: factor for name, factor in shared.items() if name in self.axes}

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        scale = self.wq.shape[1] ** -0.5 if self.scale is None else self.scale
        scores = (q * scale) @ k.transpose(-1, -2)  # (B, H, N, N)
        if context.visible is not None:  # the smallest number, not -inf: a row that sees nothing would become NaN
            scores = scores.masked_fill(~context.visible, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1) @ v
