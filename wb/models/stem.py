"""From an image to tokens."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.axes import Axes, read, write
from wb.models.operators._base import parameter, uniform_


class PatchStem(nn.Module):
    """A convolution whose kernel is its stride: one token per patch.

    Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021.
    """

    axes: ClassVar[dict[str, Axes]] = {
        "patches": (write("embed"), None, None, None),
        "patches_bias": (write("embed"),),
    }

    def __init__(
        self, record: records.PatchStem, channels: int, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.precision = record.precision
        self.patches = parameter(embed, channels, record.patch, record.patch, device=device)
        self.patches_bias = parameter(embed, device=device)

    def describe(self) -> records.PatchStem:
        """The record of this module, read off its parameters."""
        return records.PatchStem(patch=self.patches.shape[-1], precision=self.precision)

    def reset(self) -> None:
        """Initial values from torch's global generator."""
        uniform_(self.patches, self.patches[0].numel())
        nn.init.zeros_(self.patches_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        return F.conv2d(x, self.patches, self.patches_bias, stride=self.patches.shape[-1])


class ConvStem(nn.Module):
    """3x3 convolutions with GroupNorm (one group) and GELU that stride down to half the patch, then 2x2 with stride 2.

    Source: Xiao et al., "Early Convolutions Help Transformers See Better", 2021.
    Differs: GroupNorm instead of BatchNorm, so that no sub-network needs statistics of its own; a first convolution of
    stride 1 when the patch is 2.
    """

    axes: ClassVar[dict[str, Axes]]

    def __init__(
        self, record: records.ConvStem, channels: int, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.strides = [1] if record.patch == 2 else [2] * (int(math.log2(record.patch)) - 1)
        self.precision, width = record.precision, record.width
        self.axes = {  # type: ignore[misc]  # depends on the depth, hence per instance
            "last": (write("embed"), read("stem.width"), None, None),
            "last_bias": (write("embed"),),
        }
        for i in range(len(self.strides)):
            inputs = channels if i == 0 else width
            setattr(self, f"conv{i}", parameter(width, inputs, 3, 3, device=device))
            self.axes[f"conv{i}"] = (write("stem.width"), read("stem.width") if i else None, None, None)
            for name in (f"conv{i}_bias", f"gain{i}", f"shift{i}"):
                setattr(self, name, parameter(width, device=device))
                self.axes[name] = (write("stem.width"),)
        self.last = parameter(embed, width, 2, 2, device=device)
        self.last_bias = parameter(embed, device=device)

    def describe(self) -> records.ConvStem:
        """The record of this module, read off its parameters."""
        patch = 2 * math.prod(self.strides)
        return records.ConvStem.model_validate(
            {"patch": patch, "width": self.last.shape[1], "precision": self.precision}
        )

    def reset(self) -> None:
        """Initial values from torch's global generator."""
        for name, weight in self.named_parameters():
            if weight.dim() == 4:
                uniform_(weight, weight[0].numel())
            elif name.startswith("gain"):
                nn.init.ones_(weight)
            else:
                nn.init.zeros_(weight)

    def features(self, x: Tensor) -> Tensor:
        """What the last convolution reads: (B, channels, height, width) -> (B, width, 2 * rows, 2 * columns)."""
        for i, stride in enumerate(self.strides):
            x = F.conv2d(x, getattr(self, f"conv{i}"), getattr(self, f"conv{i}_bias"), stride=stride, padding=1)
            x = F.gelu(F.group_norm(x, 1, getattr(self, f"gain{i}"), getattr(self, f"shift{i}")))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, D, rows, columns)."""
        return F.conv2d(self.features(x), self.last, self.last_bias, stride=2)


class Merge(nn.Module):
    """Between stages: 2x2 neighbouring tokens become one token of the next width.

    Source: Liu et al., "Swin Transformer", 2021, patch merging.
    Differs: one 2x2 convolution with bias instead of concatenation, norm and a linear layer.
    """

    axes: ClassVar[dict[str, Axes]] = {
        "merge": (write("embed"), read("previous.embed"), None, None),
        "merge_bias": (write("embed"),),
    }

    def __init__(
        self, embed: int, grid: tuple[int, int], next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.grid = grid
        self.merge = parameter(next_embed, embed, 2, 2, device=device)
        self.merge_bias = parameter(next_embed, device=device)

    def reset(self) -> None:
        """Initial values from torch's global generator."""
        uniform_(self.merge, self.merge[0].numel())
        nn.init.zeros_(self.merge_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N/4, D')."""
        rows, columns = self.grid
        image = x.transpose(1, 2).reshape(-1, x.shape[2], rows, columns)
        return F.conv2d(image, self.merge, self.merge_bias, stride=2).flatten(2).transpose(1, 2)
