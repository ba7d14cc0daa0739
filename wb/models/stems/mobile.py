"""The stem of mobile networks.

Source: Howard et al., "MobileNets", 2017, the first layers.
Differs: its widths are free, and the last convolution, which writes the residual stream, has no activation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records import ImageInput
from wb.core.records.stems import MobileStem as Record
from wb.models.axes import read
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import Symmetry
from wb.models.stems.base import StemModule

WIDTH = "stem.width"


class MobileStem(BatchNormed, StemModule):
    """A 3x3 convolution with ReLU, depthwise ones while the patch is larger, and a 1x1 one to the stream."""

    symmetries: Mapping[str, Symmetry] = {WIDTH: "permutation"}
    conv: nn.Parameter
    point: nn.Parameter

    def __init__(self, record: Record, given: ImageInput, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__({"embed": embed, WIDTH: record.width}, device)
        self.precision, self.stride = record.precision, min(2, record.patch)
        self.further = [f"filters{i}" for i in range(int(math.log2(record.patch)) - 1)]
        self.holds("conv", WIDTH, given.channels, 3, 3)
        self.norms("conv", WIDTH)
        for name in self.further:
            self.holds(name, WIDTH, 1, 3, 3)
            self.norms(name, WIDTH)
        self.holds("point", "embed", read(WIDTH), 1, 1)
        self.norms("point", "embed")

    def describe(self) -> Record:
        patch = self.stride * 2 ** len(self.further)
        return Record.model_validate({"patch": patch, "width": self.conv.shape[0], "precision": self.precision})

    def reset(self) -> None:
        self.reset_convolutions()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        y = F.relu(self.convolved(x, "conv", stride=self.stride))
        for name in self.further:
            y = self.convolved(y, name, stride=2, groups=y.shape[1])
        return self.convolved(y, "point")
