"""Scores of the next token.

Source: Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017, https://arxiv.org/abs/1608.05859 (tied).
Limits: a tied table writes the stream and reads it, so that maps of the stream that differ in the two cannot be applied to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.axes import read
from wb.models.ends import HeadModule

TABLE = "stem.table"  # the weight of the stem that a tied head reads


class Language(HeadModule):
    """`head` (vocabulary, D), or the table of the stem, on every token behind the last norm; no bias."""

    def __init__(
        self,
        record: records.Language,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, network, embed, layout, device)
        self.weight = TABLE if record.tied else "head"
        self.readers = {self.weight: None}
        if not record.tied:
            vocabulary = int(network.get_parameter(TABLE).shape[0])
            self.holds(network, "head", (None, vocabulary), (read("embed"), embed), device=device)

    def reset(self, network: Any) -> None:
        if self.weight != TABLE:
            nn.init.trunc_normal_(network.head, std=0.02)

    def pooled(self, x: Tensor, norm: Callable[[Tensor], Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return x if norm is None else norm(x)

    def outputs(self, network: Any, pooled: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, vocabulary)."""
        return self.answered(network, pooled, self.weight)

    def answered(self, network: Any, pooled: Tensor, weight: str) -> Tensor:
        """(B, N, D) -> (B, N, vocabulary)."""
        return F.linear(pooled, network.stem.table if weight == TABLE else network.head)

    def settle(self, network: Any) -> None:
        """There is nothing to round."""

    def describe(self, network: Any) -> records.Head:
        return self.record
