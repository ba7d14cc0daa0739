"""Attention within a window that slides along a line of tokens.

Source: Beltagy, Peters and Cohan, "Longformer: The Long-Document Transformer", 2020, section 3.1,
https://arxiv.org/abs/2004.05150: token i attends to tokens j with |i - j| at most the reach; to those before it where layouts
look back. In blocks as long as the reach, each of which sees itself and the one on either side, so that cost is linear in tokens.
Differs: no tokens that all see, and one reach in all heads.
Limits: a third of the products of a block are of tokens out of reach and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.attention import Sliding as Record
from wb.core.specs import PAST
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.tensors import join_heads
from wb.scale.ring.blocks import Rule


class SlidingAttention(ScoredAttention):
    """A softmax over three blocks of S tokens, S the reach. Cost: N*D*H*(2K + 2V) + 3*H*N*S*(K + V)."""

    spreads: ClassVar[bool] = True
    record: Record

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.length = min(record.reach, layout.tokens)
        apart = torch.arange(3 * self.length)[None, :] - self.length - torch.arange(self.length)[:, None]
        near = apart.abs() <= record.reach
        self.near = near & (apart <= 0) if layout.causal else near  # (S, 3S) of tokens and keys

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """Keys and values, also of tokens that are out of reach by now."""
        heads, queries, values = self.channels
        return {"key": (heads, PAST, queries), "value": (heads, PAST, values)}

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Keys and values are appended to those of the past; what is out of reach is left out."""
        q, k, v = (self.projected(x, name) for name in ("wq", "wk", "wv"))
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        places = torch.arange(k.shape[2], device=k.device)
        apart = places[None, :] - places[k.shape[2] - q.shape[2] :, None]
        visible = (apart <= 0) & (apart >= -self.record.reach)
        if context.visible is not None:
            visible = visible & context.visible
        scores = self.scores(q, k).masked_fill(~visible, torch.finfo(q.dtype).min)
        return self.written(join_heads(scores.softmax(dim=-1) @ v, self.tokens(x))), (k, v)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        if context.spread is not None:
            rule = Rule(self.layout.causal, self.record.reach)
            return context.spread.attend(self.scaled(q), k, v, rule, context.mask)
        there = torch.ones_like(q[:1, :1, :, :1]) if context.keys is None else context.keys.to(q.dtype)
        query, key, value, seen = (self._blocks(y) for y in (q, k, v, there))
        key, value, seen = (self._around(y) for y in (key, value, seen))
        scores = self.scores(query, key)  # (B, H, blocks, S, 3S)
        visible = self.near.to(q.device) & (seen.transpose(-1, -2) > 0)
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        y = scores.softmax(dim=-1) @ value
        return y.flatten(2, 3)[:, :, : q.shape[2]]

    def _blocks(self, y: Tensor) -> Tensor:
        """(B, H, N, C) -> (B, H, blocks, S, C), the last block filled up with zeros."""
        heads, channels = int(y.shape[1]), int(y.shape[3])
        tokens = y.shape[2] if self.layout.dynamic else int(y.shape[2])
        count = (tokens + self.length - 1) // self.length
        y = F.pad(y, (0, 0, 0, self.length - 1))[:, :, : count * self.length]
        return y.reshape(-1, heads, count, self.length, channels)

    def _around(self, y: Tensor) -> Tensor:
        """Every block with those on both sides: (B, H, blocks, S, C) -> (B, H, blocks, 3S, C)."""
        y = F.pad(y, (0, 0, 0, 0, 1, 1))
        return torch.cat([y[:, :, :-2], y[:, :, 1:-1], y[:, :, 2:]], dim=3)
