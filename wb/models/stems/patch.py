"""Patch embedding: a linear map of patches.

Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021; where patches overlap, Wu et al., "CvT: Introducing
Convolutions to Vision Transformers", 2021, https://arxiv.org/abs/2103.15808.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.layers.tensors import uniform_
from wb.models.stems.base import StemModule


class PatchStem(StemModule):
    """A convolution whose stride is the patch, and its kernel too unless patches overlap: one token per patch."""

    patches: nn.Parameter
    patches_bias: nn.Parameter

    def __init__(
        self, record: records.PatchStem, given: records.ImageInput, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        kernel = record.sides if record.kernel is None else (record.kernel, record.kernel)
        self.holds("patches", "embed", given.channels, *kernel)
        self.holds("patches_bias", "embed")

    def describe(self) -> records.PatchStem:
        return self.record

    def reset(self) -> None:
        uniform_(self.patches, self.patches[0].numel())
        nn.init.zeros_(self.patches_bias)

    def absorbed(self, weights: Mapping[str, Tensor], scale: Tensor, shift: Tensor) -> dict[str, Tensor] | None:
        if self.record.padding and shift.any():  # zeros around the image stay zeros
            return None
        weight, bias = weights["patches"], weights["patches_bias"]
        added = torch.einsum("dcij,c->d", weight.double(), shift)
        scaled = weight.double() * scale[None, :, None, None]
        return {"patches": scaled.to(weight), "patches_bias": (bias.double() + added).to(bias)}

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        return F.conv2d(x, self.patches, self.patches_bias, self.record.sides, self.record.padding)
