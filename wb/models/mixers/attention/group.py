"""Attention within groups of tokens.

Source: Shen, Liu and Xing, "Sliced Recursive Transformer", 2022, section 3.3, https://arxiv.org/abs/2111.05297: the tokens are
split into contiguous groups, in some passes after a random permutation.
Differs: the published code draws a permutation in every call, so that the same picture gives different answers and no graph can
be exported; here it is drawn once, from the number of tokens alone. Where `groups` does not divide the tokens there are fewer.
Limits: a class token is in one group only.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.attention import Grouped as Record
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import Context
from wb.models.layers.tensors import dividing


@lru_cache(maxsize=64)
def shuffled(tokens: int) -> Tensor:
    """A permutation of so many tokens, always the same one."""
    return torch.randperm(tokens, generator=torch.Generator().manual_seed(tokens))


class GroupAttention(ScoredAttention):
    """`softmax(scale * q k^T) v` in every group. Cost: N*D*H*(2K + 2V) + H*N^2*(K + V) / groups multiply-accumulates."""

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.groups = dividing(record.groups, layout.tokens)
        self.order = shuffled(layout.tokens) if record.permuted and self.groups > 1 else None

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*V)."""
        order = None if self.order is None else self.order.to(x.device)
        x = x if order is None else x.index_select(1, order)
        y = super().hidden(x.reshape(-1, self.layout.tokens // self.groups, int(x.shape[2])), context)
        y = y.reshape(-1, self.layout.tokens, int(y.shape[2]))
        return y if order is None else y.index_select(1, order.argsort())

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return self.scores(q, k).softmax(dim=-1) @ v
