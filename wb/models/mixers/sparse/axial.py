"""Combiner attention, the axial pattern.

Source: Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", 2021, section 4.3 and figure 2 (C),
https://arxiv.org/abs/2107.05768, and the published code: the tokens lie in rows; within every row each attends to all, which
gives r; a token then attends to those of its row (looking back, in causal layouts) and, in the other rows (those before), to r
in its own column, in one softmax, whose keys there are W' LayerNorm(x + W r).
Differs: x enters that norm by a map of its own, to `summary` channels; published it enters as it is, so that these are the
stream's. All maps into heads have biases, as every attention here. The published encoder sees the summary of its own row too;
that is the `form` "official".
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import AxialCombiner as Record
from wb.models.axes import read
from wb.models.layers.attention import AttentionModule
from wb.models.layers.operator import Context, Symmetry
from wb.models.layers.tensors import UNSEEN, constant, dividing, join_heads


class AxialCombinerAttention(AttentionModule):
    """A softmax over S tokens and N/S summaries of C channels.

    Cost: N*D*(H*(2K + 2V) + C) + N*H*((2S + N/S)*(K + V) + C*(K + V)).
    """

    record: Record
    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "qk": "rotation",
        "v": "rotation",
        "summary": "permutation",
    }
    averaged: tuple[str, ...] = ("summary",)
    summary_gain: nn.Parameter
    summary_shift: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("ws", "bs", "summary")
        self.between("summary_row", "summary", read("heads"), read("v"))
        self.holds("summary_gain", "summary")
        self.holds("summary_shift", "summary")
        self.between("summary_key", "heads", "qk", read("summary"))
        self.length = dividing(record.segment, layout.tokens)
        self.rows = layout.tokens // self.length
        place, number = torch.arange(self.length), torch.arange(self.rows)
        after = place[:, None] < place[None, :]
        left_out = number[:, None] <= number[None, :] if layout.causal else number[:, None] == number[None, :]
        self.after = after * UNSEEN if layout.causal else None  # (S, S) of a row's tokens
        self.left_out = left_out * UNSEEN if layout.causal or record.form == "once" else None  # (rows, rows)

    @property
    def factors(self) -> Mapping[str, float]:
        """The scale goes to the queries, which meet two kinds of keys."""
        return dict.fromkeys(("wq", "bq"), self.record.factor)

    def reset(self) -> None:
        super().reset()
        nn.init.ones_(self.summary_gain)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        heads, queries, values = self.channels
        tokens, columns = self.rows * self.length, (-1, heads, self.rows, self.length)
        q, k, v = (self.projected(x, name) for name in ("wq", "wk", "wv"))
        q = q * self.record.factor
        q, k, v = q.reshape(*columns, queries), k.reshape(*columns, queries), v.reshape(*columns, values)
        within = q @ k.transpose(-1, -2)  # (B, H, rows, S, S)
        row = (within.softmax(dim=-1) @ v).reshape(-1, heads, tokens, values)
        key = self._keys(x, row).reshape(*columns, queries).transpose(2, 3)  # (B, H, S, rows, K)
        across = (q.transpose(2, 3) @ key.transpose(-1, -2)).transpose(2, 3)  # (B, H, rows, S, rows)
        if self.after is not None:
            within = within + constant(self.after, q)
        if self.left_out is not None:
            across = across + constant(self.left_out, q)[:, None]
        weights = torch.cat([within, across], dim=4).softmax(dim=-1)
        column = row.reshape(*columns, values).transpose(2, 3)  # (B, H, S, rows, V)
        far = (weights[..., self.length :].transpose(2, 3) @ column).transpose(2, 3)
        y = weights[..., : self.length] @ v + far
        return join_heads(y.reshape(-1, heads, tokens, values))

    def _keys(self, x: Tensor, row: Tensor) -> Tensor:
        """The keys of summaries, from the tokens (B, N, D) and what they attend to in their rows: (B, H, N, K)."""
        channels = int(self.summary_gain.shape[0])
        attended = F.linear(join_heads(row), self.kept("summary_row").flatten(1))
        known = F.linear(x, self.kept("ws"), self.bias("ws")) + attended
        normed = F.layer_norm(known, (channels,), self.summary_gain, self.summary_shift, self.record.eps)
        heads, queries, _ = self.channels
        key = F.linear(normed, self.kept("summary_key").flatten(0, 1))
        return key.reshape(-1, self.layout.tokens, heads, queries).transpose(1, 2)
