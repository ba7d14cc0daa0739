"""Random erasing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_AREAS = (0.02, 1 / 3)  # shares of the image
_ASPECT = 10 / 3


def erase(images: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """A rectangle of each of `images` (B, C, H, W), with probability `share`, becomes the image's mean colour.

    Source: Zhong et al., "Random Erasing Data Augmentation", 2017. Differs: they fill with noise; rectangles that would stand
    out are cut.
    """
    count, _, height, width = images.shape
    coin, area, aspect, top, left = torch.rand(5, count, generator=generator)
    area = _AREAS[0] + (_AREAS[1] - _AREAS[0]) * area
    aspect = torch.exp((2 * aspect - 1) * math.log(_ASPECT))
    tall, wide = ((area / aspect).sqrt() * height).clamp(1, height), ((area * aspect).sqrt() * width).clamp(1, width)
    rows = _within(torch.arange(height), top * (height - tall), tall)
    columns = _within(torch.arange(width), left * (width - wide), wide)
    gone = (coin < share).view(-1, 1, 1) & rows[:, :, None] & columns[:, None, :]
    return torch.where(gone[:, None], images.mean(dim=(2, 3), keepdim=True), images)


def _within(places: Tensor, start: Tensor, size: Tensor) -> Tensor:
    """Which of `places` (n) lie in each interval: (B, n)."""
    first = start.floor()[:, None]
    return (places >= first) & (places < first + size.round()[:, None])
