"""Combiner attention, the fixed pattern.

Source: Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", 2021, section 4.1 and figure 2 (A),
https://arxiv.org/abs/2107.05768, and the published code: the summary of a segment has the key max_j k_j, entry by entry, and the
value softmax(scale * max_j q_j * k) v; a token attends to its segment (looking back, in causal layouts) and to the summaries of
the other segments (of those before it), in one softmax.
Differs: scores have the record's scale, here and in summaries. The published encoder counts a token's own segment by its summary
too; that is the `form` "official".
Limits: the largest entries depend on the basis of queries and keys, so that these can be permuted and not rotated.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.attention import Combiner as Record
from wb.models.layers.attention import AttentionModule
from wb.models.layers.operator import Context, Symmetry
from wb.models.layers.tensors import UNSEEN, constant, dividing


class LargestEntries(AttentionModule):
    """What attention has in common whose summaries are of the largest entries of queries and keys."""

    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "permutation", "v": "rotation"}

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


class CombinerAttention(LargestEntries):
    """One softmax over N/S summaries and S tokens. Cost: N*D*H*(2K + 2V) + H*N*(2S + N/S)*(K + V) at most."""

    record: Record

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.length = dividing(record.segment, layout.tokens)
        self.segments = layout.tokens // self.length
        place = torch.arange(self.length)
        number = torch.arange(self.segments)
        after = place[:, None] < place[None, :] if layout.causal else torch.zeros(self.length, self.length) > 0
        left_out = number[:, None] <= number[None, :] if layout.causal else number[:, None] == number[None, :]
        if record.form == "official" and not layout.causal:
            left_out = left_out & False
        self.after, self.left_out = after * UNSEEN, left_out * UNSEEN  # (S, S) of tokens, (segments, segments)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        heads, queries, values = self.channels
        q = q * self.record.factor
        shape = (-1, heads * self.segments, self.length)
        q, k, v = (y.reshape(*shape, y.shape[3]) for y in (q, k, v))
        key = k.amax(dim=2)  # (B, H*segments, K)
        seen = (q.amax(dim=2, keepdim=True) @ k.transpose(-1, -2)).softmax(dim=-1)
        value = (seen @ v).reshape(-1, heads, self.segments, values)
        within = q @ k.transpose(-1, -2) + constant(self.after, q)  # (B, H*segments, S, S)
        tokens = self.segments * self.length
        across = q.reshape(-1, heads, tokens, queries) @ key.reshape(-1, heads, self.segments, queries).transpose(
            -1, -2
        )
        hidden = constant(self.left_out, q).repeat_interleave(self.length, dim=0)  # (N, segments)
        scores = torch.cat([within.reshape(-1, heads, tokens, self.length), across + hidden], dim=3)
        weights = scores.softmax(dim=-1)
        near = weights[..., : self.length].reshape(-1, heads * self.segments, self.length, self.length)
        return (near @ v).reshape(-1, heads, tokens, values) + weights[..., self.length :] @ value
