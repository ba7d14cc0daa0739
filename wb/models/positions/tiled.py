"""Positions of windows and of the whole picture.

Source: Bolya et al., "Window Attention is Bugged: How not to Interpolate Position Embeddings", 2024, section 4,
https://arxiv.org/abs/2311.05613; enlarged as in timm's `hiera.py`: bicubic, with antialiasing where it is reduced instead.
Limits: a mean error of tokens is taken over as far as it is the same in every window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.ends import PositionModule


class Tiled(PositionModule):
    """`position` (D, places, places), enlarged, and `window` (D, side, side), repeated, are added.

    A network that is settled has the sum of both as `position` (N, D).
    """

    def __init__(
        self,
        record: records.Tiled,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, network, embed, layout, device)
        self.prefix, self.shape, self.side = layout.prefix, layout.shape, layout.tile(record.window)
        self.settled = False
        for name, side in (("position", record.places), ("window", self.side)):
            self.holds(network, name, ("embed", embed), (None, side), (None, side), device=device)

    def reset(self, network: Any) -> None:
        nn.init.trunc_normal_(network.position, std=0.02)
        nn.init.trunc_normal_(network.window, std=0.02)

    def moved(self, network: Any, by: Tensor) -> None:
        rows, columns = self.shape
        squares = by[self.prefix :].unflatten(0, (rows // self.side, self.side, columns // self.side, self.side))
        network.window.add_(squares.mean(dim=(0, 2)).permute(2, 0, 1).to(network.window))

    def placed(self, network: Any, x: Tensor, places: Tensor | None = None) -> Tensor:
        placed: Tensor = x + (network.position if self.settled else self._whole(network))
        return placed

    def settle(self, network: Any) -> None:
        network.position = nn.Parameter(self._whole(network))
        self.settled = True

    def _whole(self, network: Any) -> Tensor:
        """What is added to each token: (N, D)."""
        rows, columns = self.shape
        enlarged = F.interpolate(network.position[None], (rows, columns), mode="bicubic", antialias=True)
        repeated = network.window.repeat(1, rows // self.side, columns // self.side)
        whole = (enlarged[0] + repeated).flatten(1).transpose(0, 1)
        return F.pad(whole, (0, 0, self.prefix, 0)) if self.prefix else whole
