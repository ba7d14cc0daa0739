"""Multi-head self-attention.

Source: Vaswani et al., "Attention Is All You Need", 2017, eq. 1.
Differs: queries and keys may have other channels per head than values, and heads x channels need not equal the width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Softmax
from wb.core.specs import PAST
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.tensors import join_heads
from wb.scale.ring.blocks import Rule


class SoftmaxAttention(ScoredAttention):
    """`softmax(scale · q kᵀ) v`. Cost: N·D·H·(2K + 2V) + H·N²·(K + V) multiply-accumulates."""

    spreads: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    divides: ClassVar[str | None] = "heads"

    def __init__(self, record: Softmax, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device, bias=record.bias, qkv_bias=record.qkv_bias)

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """Keys and values."""
        heads, queries, values = self.channels
        return {"key": (heads, PAST, queries), "value": (heads, PAST, values)}

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Keys and values are appended to those of the past."""
        q, k, v = (self.projected(x, name) for name in ("wq", "wk", "wv"))
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        return self.written(join_heads(self.mix(q, k, v, context), self.tokens(x))), (k, v)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        if context.spread is not None:
            return context.spread.attend(self.scaled(q), k, v, Rule(self.layout.causal), context.mask)
        scores = self.scores(q, k)
        if context.visible is not None:  # the smallest number, not -inf: a row that sees nothing would become NaN
            scores = scores.masked_fill(~context.visible, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1) @ v
