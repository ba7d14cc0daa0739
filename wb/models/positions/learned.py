"""Learned positions.

Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.ends import PositionModule


class Learned(PositionModule):
    """One vector per token is added: `position` (N, D)."""

    def __init__(
        self,
        record: records.Learned,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, network, embed, layout, device)
        self.dynamic = layout.dynamic
        self.holds(network, "position", (None, layout.tokens), ("embed", embed), device=device)

    def reset(self, network: Any) -> None:
        nn.init.trunc_normal_(network.position, std=0.02)

    def moved(self, network: Any, by: Tensor) -> None:
        network.position[: len(by)].add_(by)

    def placed(self, network: Any, x: Tensor, places: Tensor | None = None) -> Tensor:
        if places is not None:
            return x + F.embedding(places, network.position)
        placed: Tensor = x + (network.position[: x.shape[1]] if self.dynamic else network.position)
        return placed
