"""The beginning of MobileNetV3: one convolution, and a separable one that is added to it.

Source: Howard et al., "Searching for MobileNetV3", 2019, the first layer and, of the large network, the first block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wb.core.records import ImageInput
from wb.core.records.stems import SingleStem as Record
from wb.models.axes import read
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.tensors import ACTIVATIONS
from wb.models.stems.base import StemModule


class SingleStem(BatchNormed, StemModule):
    """`y + point(activation(filters(y)))` of `y = activation(conv(x))`, a norm behind each of the three."""

    conv: nn.Parameter
    filters: nn.Parameter
    point: nn.Parameter

    def __init__(self, record: Record, given: ImageInput, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__({"embed": embed}, device)
        self.record, self.precision = record, record.precision
        self.activation = ACTIVATIONS[record.activation]
        self.holds("conv", "embed", given.channels, 3, 3)
        self.norms("conv", "embed")
        if record.separable is not None:
            kernel = record.separable.kernel
            self.between = ACTIVATIONS[record.separable.activation]
            self.holds("filters", "embed", 1, kernel, kernel)
            self.norms("filters", "embed")
            self.holds("point", "embed", read("embed"), 1, 1)
            self.norms("point", "embed")

    def describe(self) -> Record:
        return self.record

    def reset(self) -> None:
        self.reset_convolutions()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        y: Tensor = self.activation(self.convolved(x, "conv", stride=self.record.patch))
        if self.record.separable is None:
            return y
        filtered = self.between(self.convolved(y, "filters", groups=self.filters.shape[0]))
        return y + self.convolved(filtered, "point")
