"""Patch embedding: a linear map of patches.

Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.stem import StemModule
from wb.models.tensors import uniform_


class PatchStem(StemModule):
    """A convolution whose kernel is its stride: one token per patch."""

    patches: nn.Parameter
    patches_bias: nn.Parameter

    def __init__(
        self, record: records.PatchStem, channels: int, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__({"embed": embed}, device)
        self.precision = record.precision
        self.columns = record.columns
        self.holds("patches", "embed", channels, *record.sides)
        self.holds("patches_bias", "embed")

    def describe(self) -> records.PatchStem:
        rows, columns = self.patches.shape[2:]
        return records.PatchStem(
            patch=rows, columns=None if self.columns is None else columns, precision=self.precision
        )

    def reset(self) -> None:
        uniform_(self.patches, self.patches[0].numel())
        nn.init.zeros_(self.patches_bias)

    def absorbed(self, weights: Mapping[str, Tensor], scale: Tensor, shift: Tensor) -> dict[str, Tensor]:
        weight, bias = weights["patches"], weights["patches_bias"]
        added = torch.einsum("dcij,c->d", weight.double(), shift)
        scaled = weight.double() * scale[None, :, None, None]
        return {"patches": scaled.to(weight), "patches_bias": (bias.double() + added).to(bias)}

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        return F.conv2d(x, self.patches, self.patches_bias, stride=self.patches.shape[2:])
