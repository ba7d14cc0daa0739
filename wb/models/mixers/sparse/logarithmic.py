"""Combiner attention, the logarithmic pattern.

Source: Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", 2021, section 4.2 and figure 2 (B),
https://arxiv.org/abs/2107.05768, and the published code: the tokens before token i are cut into blocks of powers of two, one for
every bit of i that is set, the largest first; a token attends to itself and to the summaries of its blocks, in one softmax. The
summary of a block has the key max_j k_j, entry by entry, and the value softmax(scale * max_j q_j * k) v.
Differs: where layouts do not look back only, the tokens behind token i are cut alike, counted from the end; the published code
knows looking back alone. Scores have the record's scale. The number of tokens need be no power of two: what is missing lies
behind all tokens, where nothing sees it.
Limits: graphs have some dozen nodes for every block size. The largest entries depend on the basis of queries and keys, so that
these can be permuted and not rotated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import LogCombiner as Record
from wb.models.layers.operator import Context
from wb.models.layers.tensors import UNSEEN, constant
from wb.models.mixers.attention.combiner import LargestEntries


class LogCombinerAttention(LargestEntries):
    """A softmax over at most log N summaries to either side. Cost: N*D*H*(2K + 2V) + 2*H*N*log N*(K + V) to either side."""

    record: Record

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.levels = (layout.tokens - 1).bit_length()
        self.missing = 2**self.levels - layout.tokens
        level = torch.arange(self.levels)
        even = (torch.arange(2**self.levels)[:, None] >> level) % 2 == 0  # the first of two blocks does not see itself
        self.unseen = even * UNSEEN  # (N and missing, levels)

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
        most_q, most_k, scores, values = q, k, [q[..., :0]], []
        for level in range(self.levels):  # the second of two blocks sees the first
            pairs, length = 2 ** (self.levels - level - 1), 2**level
            both = (-1, heads, pairs, 2)
            first_q, first_k = (y.reshape(*both, int(y.shape[3]))[:, :, :, :1] for y in (most_q, most_k))
            key, value = (y.reshape(*both, length, int(y.shape[3]))[:, :, :, 0] for y in (k, v))
            if level > 0:
                value = (first_q @ key.transpose(-1, -2)).softmax(dim=-1) @ value
            found = q.reshape(-1, heads, pairs, 2 * length, int(q.shape[3])) @ first_k.transpose(-1, -2)
            scores.append(found.reshape(-1, heads, 2**self.levels, 1))
            values.append(value)  # (B, H, pairs, 1, V)
            most_q, most_k = (y.reshape(*both, int(y.shape[3])).amax(dim=3) for y in (most_q, most_k))
        seen = torch.cat(scores, dim=3) + constant(self.unseen, q)
        return seen[:, :, : self.layout.tokens], values

    def _weighted(self, weights: Tensor, values: list[Tensor]) -> Tensor:
        """The values of blocks by their weights, zero where one is not before: (B, H, N, levels) -> (B, H, N, V)."""
        heads, _, channels = self.channels
        weights, total = self._filled(weights), weights.new_zeros(1, 1, 1, channels)
        for level, value in enumerate(values):
            own = weights[..., level].reshape(-1, heads, 2 ** (self.levels - level - 1), 2 ** (level + 1), 1)
            total = total + (own @ value).reshape(-1, heads, 2**self.levels, channels)
        return total[:, :, : self.layout.tokens]

    def _filled(self, y: Tensor) -> Tensor:
        """(B, H, N, C) with what is missing to a power of two, behind the tokens."""
        return torch.cat([y, torch.zeros_like(y[:, :, : self.missing])], dim=2) if self.missing else y
