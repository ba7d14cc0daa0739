"""Convolutional stem: a small convolutional network that makes the tokens.

Source: Xiao et al., "Early Convolutions Help Transformers See Better", 2021.
Differs: GroupNorm instead of BatchNorm, so that sub-networks need no statistics of their own; a first convolution of
stride 1 when the patch is 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.axes import read
from wb.models.layers.operator import Symmetry
from wb.models.layers.tensors import patches, uniform_
from wb.models.stems.base import StemModule

WIDTH = "stem.width"


class ConvStem(StemModule):
    """3x3 convolutions with GroupNorm (one group) and GELU that stride down to half the patch, then 2x2 with stride 2."""

    symmetries: Mapping[str, Symmetry] = {WIDTH: "permutation"}
    averaged: tuple[str, ...] = (WIDTH,)
    fitted = ("last", "last_bias")
    last: nn.Parameter
    last_bias: nn.Parameter

    def __init__(
        self, record: records.ConvStem, given: records.ImageInput, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__({"embed": embed, WIDTH: record.width}, device)
        self.strides = [1] if record.patch == 2 else [2] * (int(math.log2(record.patch)) - 1)
        self.precision = record.precision
        for i in range(len(self.strides)):
            self.holds(f"conv{i}", WIDTH, read(WIDTH) if i else given.channels, 3, 3)
            for name in (f"conv{i}_bias", f"gain{i}", f"shift{i}"):
                self.holds(name, WIDTH)
        self.holds("last", "embed", read(WIDTH), 2, 2)
        self.holds("last_bias", "embed")

    def describe(self) -> records.ConvStem:
        patch = 2 * math.prod(self.strides)
        return records.ConvStem.model_validate(
            {"patch": patch, "width": self.last.shape[1], "precision": self.precision}
        )

    def reset(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 4:
                uniform_(weight, weight[0].numel())
            elif name.startswith("gain"):
                nn.init.ones_(weight)
            else:
                nn.init.zeros_(weight)

    def features(self, x: Tensor) -> Tensor:
        """The input of the last convolution: (B, channels, height, width) -> (B, width, 2 * rows, 2 * columns)."""
        for i, stride in enumerate(self.strides):
            x = F.conv2d(x, getattr(self, f"conv{i}"), getattr(self, f"conv{i}_bias"), stride=stride, padding=1)
            x = F.gelu(F.group_norm(x, 1, getattr(self, f"gain{i}"), getattr(self, f"shift{i}")))
        return x

    def inputs(self, x: Tensor) -> Tensor:
        return patches(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        return F.conv2d(self.features(x), self.last, self.last_bias, stride=2)
