"""Mirroring of images."""

from __future__ import annotations

import torch
from torch import Tensor


def flip(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Mirrors each of `images` (B, C, H, W) left to right with probability one half."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)
