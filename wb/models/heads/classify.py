"""A linear classifier of pooled tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.axes import read
from wb.models.ends import HeadModule
from wb.models.lowbit import low_bit


class Classify(HeadModule):
    """`head` (classes, D) and `head_bias` (classes) on the mean of the tokens that have a place, or on the first of all."""

    def __init__(
        self,
        record: records.Classify,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, network, embed, layout, device)
        self.prefix, self.readers = layout.prefix, {"head": "head_bias"}
        self.holds(network, "head", ("classes", record.classes), (read("embed"), embed), device=device)
        self.holds(network, "head_bias", ("classes", record.classes), device=device)

    def reset(self, network: Any) -> None:
        nn.init.trunc_normal_(network.head, std=0.02)
        nn.init.zeros_(network.head_bias)

    def pooled(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D)."""
        if x.dim() == 4:
            return x.mean(dim=(2, 3))
        if self.record.pool == "first":
            return x[:, 0]
        return (x[:, self.prefix :] if self.prefix else x).mean(dim=1)

    def outputs(self, network: Any, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, classes)."""
        return F.linear(pooled, low_bit(network.head, self.record.precision, 1), network.head_bias)

    def settle(self, network: Any) -> None:
        network.head.copy_(low_bit(network.head, self.record.precision, 1))
        self.record = self.record.model_copy(update={"precision": "fp32"})

    def describe(self, network: Any) -> records.Classify:
        return self.record.model_copy(update={"classes": network.head.shape[0]})
