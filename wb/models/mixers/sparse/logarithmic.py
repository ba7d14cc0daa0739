"""Combiner attention, the logarithmic pattern.

Source: Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", 2021, section 4.2 and figure 2 (B),
https://arxiv.org/abs/2107.05768, and the published code: the tokens before token i are cut into blocks of powers of two, one for
every bit of i that is set, the largest first; a token attends to itself and to the summaries of its blocks, in one softmax. The
summary of a block has the key max_j k_j, entry by entry, and the value softmax(scale * max_j q_j * k) v.
Differs: where layouts do not look back only, the tokens behind token i are cut alike, counted from the end; the published code
knows looking back alone. Scores have the record's scale. The number of tokens need be no power of two: what is missing lies
behind all tokens, where nothing sees it.
Limits: the largest entries depend on the basis of queries and keys, so that these can be permuted and not rotated.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import LogCombiner as Record
from wb.models.layers.attention import AttentionModule
from wb.models.layers.operator import Context, Symmetry

UNSEEN = -1e4


class LogCombinerAttention(AttentionModule):
    """A softmax over at most log N summaries to either side. Cost: N*D*H*(2K + 2V) + H*N*log N*(K + V) to either side."""

    record: Record
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "permutation", "v": "rotation"}

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.levels = (layout.tokens - 1).bit_length()
        self.missing = 2**self.levels - layout.tokens

    @property
    def convex(self) -> bool:
        return True

    @property
    def idle(self) -> tuple[str, ...]:
        """Also the largest keys have it."""
        return ("bk",)

    @property
    def factors(self) -> Mapping[str, float]:
        """The scale goes to the queries, as the largest of scaled entries are the scaled largest."""
        return dict.fromkeys(("wq", "bq"), self.record.factor)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        q = q * self.record.factor
        scores, values = self._before(q, k, v)
        far = [scores]
        if not self.layout.causal:
            behind, others = self._before(*(y.flip(2) for y in (q, k, v)))
            far.append(behind.flip(2))
        weights = torch.cat([(q * k).sum(dim=3, keepdim=True), *far], dim=3).softmax(
            dim=-1
        )  # (B, H, N, 1 + levels ...)
        y = weights[..., :1] * v + self._weighted(weights[..., 1 : 1 + self.levels], values)
        if not self.layout.causal:
            y = y + self._weighted(weights[..., 1 + self.levels :].flip(2), others).flip(2)
        return y

    def _before(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores of the blocks before each token (B, H, N, levels), and by level the values of every second block."""
        heads, _, _ = self.channels
        q, k, v = (self._filled(y) for y in (q, k, v))
        scores, values = [], []
        for level in range(self.levels):  # the second of two blocks sees the first
            pairs = (-1, heads, 2 ** (self.levels - level - 1), 2, 2**level)
            query, key, value = (y.reshape(*pairs, int(y.shape[3])) for y in (q, k, v))
            key, value = key[:, :, :, 0], value[:, :, :, 0]  # (B, H, pairs, block, channels)
            if level > 0:
                seen = (query[:, :, :, 0].amax(dim=3, keepdim=True) @ key.transpose(-1, -2)).softmax(dim=-1)
                key, value = key.amax(dim=3, keepdim=True), seen @ value
            found = query[:, :, :, 1] @ key.transpose(-1, -2)  # (B, H, pairs, block, 1)
            both = torch.cat([torch.full_like(found, UNSEEN), found], dim=3)
            scores.append(both.reshape(-1, heads, 2**self.levels, 1)[:, :, : self.layout.tokens])
            values.append(value)
        return torch.cat(scores, dim=3) if scores else q[..., :0], values

    def _weighted(self, weights: Tensor, values: list[Tensor]) -> Tensor:
        """The values of blocks by their weights: (B, H, N, levels) -> (B, H, N, V)."""
        heads, _, channels = self.channels
        weights, total = self._filled(weights), weights.new_zeros(1, 1, 1, channels)
        for level, value in enumerate(values):
            own = weights[..., level].reshape(-1, heads, 2 ** (self.levels - level - 1), 2, 2**level, 1)[:, :, :, 1]
            given = own @ value  # (B, H, pairs, block, V)
            both = torch.cat([torch.zeros_like(given), given], dim=3)
            total = total + both.reshape(-1, heads, 2**self.levels, channels)[:, :, : self.layout.tokens]
        return total

    def _filled(self, y: Tensor) -> Tensor:
        """(B, H, N, C) with what is missing to a power of two, behind the tokens."""
        return torch.cat([y, torch.zeros_like(y[:, :, : self.missing])], dim=2) if self.missing else y
