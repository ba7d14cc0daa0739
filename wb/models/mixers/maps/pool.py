"""PoolFormer's token mixer.

Source: Yu et al., "MetaFormer Is Actually What You Need for Vision", 2022: y = AvgPool_k(x) − x, stride 1, borders not
counted.
Differs: GroupNorm and layer scale are the block's, which may have others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import Pool
from wb.models.layers.operator import NOTHING, Context, OperatorModule
from wb.models.layers.planes import as_map, laid


class PoolMixer(OperatorModule):
    """Average of the `kernel` x `kernel` neighbourhood minus the token; no parameters."""

    def __init__(self, record: Pool, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.kernel = record.kernel

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        image = as_map(x, self.layout)
        mean = F.avg_pool2d(image, self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False)
        return laid(mean, self.layout) - x
