"""Attention with pooled queries, which makes one token of four.

Source: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", 2023, section 3.2, its block with
`q_stride`, https://arxiv.org/abs/2306.00989.
Differs: it is a merge by itself, and the feed-forward behind it a block of the stage; what goes around the attention is projected
also where the widths are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.joins import INIT
from wb.core.records.merges import QPool as Record
from wb.models.axes import Axis, read
from wb.models.layers.operator import Symmetry
from wb.models.layers.planes import as_tokens
from wb.models.layers.squares import cut, uncut
from wb.models.layers.tensors import join_heads, project, uniform_
from wb.models.merges.base import PREVIOUS, MergeModule


class QPool(MergeModule):
    """`max(W_p n + b_p) + W_o softmax(scale · max(q) kᵀ) v + b_o` of `n = LayerNorm(x)`, each maximum over 2x2 tokens."""

    stream: ClassVar[Symmetry] = "permutation"
    # Values could be rotated as well; queries not, as the largest is taken channel by channel.
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "permutation", "v": "permutation"}
    averaged: tuple[str, ...] = (PREVIOUS,)
    outputs: Mapping[str, int] = {"wq": 2, "wk": 2, "wv": 2, "wo": 1, "skip": 1}
    record: Record
    gain: nn.Parameter
    shift: nn.Parameter
    wq: nn.Parameter
    bq: nn.Parameter
    wk: nn.Parameter
    bk: nn.Parameter
    wv: nn.Parameter
    bv: nn.Parameter
    wo: nn.Parameter
    bo: nn.Parameter
    layer_scale: nn.Parameter
    skip: nn.Parameter
    skip_bias: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.side = layout.tile(record.side)
        self.holds("gain", PREVIOUS)
        self.holds("shift", PREVIOUS)
        for weight, bias, channels in (("wq", "bq", "qk"), ("wk", "bk", "qk"), ("wv", "bv", "v")):
            self._maps(weight, bias, ("heads", channels), (read(PREVIOUS),))
        self._maps("wo", "bo", ("embed",), (read("heads"), read("v")))
        if record.scaled:
            self.holds("layer_scale", "embed")
        self._maps("skip", "skip_bias", ("embed",), (read(PREVIOUS),))

    def _maps(self, weight: str, bias: str, to: tuple[str, ...], of: tuple[Axis, ...]) -> None:
        """Declares a linear map and its bias."""
        self.holds(weight, *to, *of)
        self.holds(bias, *to)

    def reset(self) -> None:
        nn.init.ones_(self.gain)
        if self.record.scaled:
            nn.init.constant_(self.layer_scale, INIT)
        for name, outputs in self.outputs.items():
            weight = self.get_parameter(name)
            uniform_(weight, weight.flatten(0, outputs - 1)[0].numel())
        for zeros in ("shift", "bq", "bk", "bv", "bo", "skip_bias"):
            nn.init.zeros_(self.get_parameter(zeros))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, N/4, D')."""
        rows, columns = self.layout.shape
        x = as_tokens(x)
        x = cut(F.layer_norm(x, self.gain.shape, self.gain, self.shift, self.record.eps), self.layout.shape, self.side)
        q, k, v = (project(x, *pair) for pair in ((self.wq, self.bq), (self.wk, self.bk), (self.wv, self.bv)))
        scale = self.wq.shape[1] ** -0.5 if self.record.scale is None else self.record.scale
        heads, queries = (int(size) for size in self.wq.shape[:2])
        q = self._largest(q.flatten(0, 1)).reshape(-1, heads, self.side**2 // 4, queries)
        y = join_heads(((q * scale) @ k.transpose(-1, -2)).softmax(dim=-1) @ v)
        y = F.linear(y, self.wo.flatten(1), self.bo)
        y = (y * self.layer_scale if self.record.scaled else y) + self._largest(F.linear(x, self.skip, self.skip_bias))
        return uncut(y, (rows // 2, columns // 2), self.side // 2)

    def _largest(self, x: Tensor) -> Tensor:
        """The largest of 2x2 tokens of a square, channel by channel: (…, side², C) -> (…, side²/4, C)."""
        half, channels = self.side // 2, int(x.shape[-1])
        return x.reshape(-1, half, 2, half, 2 * channels).amax(dim=2).reshape(-1, half**2, 2, channels).amax(dim=2)
