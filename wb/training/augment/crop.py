"""Random windows of images: of their own size out of a reflected border, or of any size, scaled back."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_ASPECT = 4 / 3  # of a window of any size, at most, either way


def crop(images: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """A window of their own size out of each of `images` (B, C, H, W), whose border of `share` of the shorter side is reflected.

    Source: He et al., "Deep Residual Learning", 2015, which pads with zeros.
    """
    count, _, height, width = images.shape
    reach = min(round(share * min(height, width)), height - 1, width - 1)  # a border cannot reflect more
    offsets = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    rows, columns = (offset + torch.arange(size) for offset, size in zip(offsets, (height, width), strict=True))
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    # indices on either side of the channels put these last: (B, H, W, C)
    windows = padded[torch.arange(count).view(-1, 1, 1), :, rows[:, :, None], columns[:, None, :]]
    return windows.permute(0, 3, 1, 2).contiguous()


def resized_crop(images: Tensor, least: float, generator: torch.Generator | None = None) -> Tensor:
    """A window of each of `images` (B, C, H, W) with `least` to all of its area, scaled back to the whole size.

    Source: Szegedy et al., "Going Deeper with Convolutions", 2014. Differs: windows lie within the image, so that very long
    ones are cut.
    """
    count = len(images)
    area, aspect, right, down = torch.rand(4, count, generator=generator)
    area = least + (1 - least) * area
    aspect = torch.exp((2 * aspect - 1) * math.log(_ASPECT))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width, (1 - width) * (2 * right - 1)
    theta[:, 1, 1], theta[:, 1, 2] = height, (1 - height) * (2 * down - 1)
    return warped(images, theta)


def warped(images: Tensor, theta: Tensor) -> Tensor:
    """`images` (B, C, H, W) read at the places `theta` (B, 2, 3) maps theirs to, in units of half the sides; borders reflect."""
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
