"""PoolFormer's token mixer.

Source: Yu et al., "MetaFormer Is Actually What You Need for Vision", 2022: y = AvgPool_k(x) − x, stride 1, borders not
counted.
Differs: it sits behind this workbench's LayerNorm, without PoolFormer's GroupNorm and layer scale.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.records import Pool
from wb.models.axes import Axes
from wb.models.operators._base import Grid, OperatorModule


class PoolMixer(OperatorModule):
    """Average of the `kernel` x `kernel` neighbourhood minus the token; no parameters."""

    axes: ClassVar[dict[str, Axes]] = {}

    def __init__(self, record: Pool, embed: int, grid: Grid, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.kernel, self.embed, self.grid = record.kernel, embed, grid

    def describe(self) -> Pool:
        return Pool(kernel=self.kernel)

    def reset(self) -> None:
        """Nothing to fill."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns, _ = self.grid
        image = x.transpose(1, 2).reshape(-1, self.embed, rows, columns)  # (B, D, rows, columns)
        mean = F.avg_pool2d(image, self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False)
        return mean.flatten(2).transpose(1, 2) - x
