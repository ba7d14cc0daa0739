"""Changes of brightness, contrast and saturation."""

from __future__ import annotations

import torch
from torch import Tensor


def jitter(images: Tensor, reach: float, generator: torch.Generator | None = None) -> Tensor:
    """Brightness, contrast and saturation of `images` (B, C, H, W) in [0, 1], each by a factor of its own in 1 ± `reach`."""
    factors = 1 + reach * (2 * torch.rand(3, len(images), generator=generator) - 1)
    return recoloured(images, *factors)


def recoloured(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """`images` (B, C, H, W) with these factors (B), clamped to [0, 1]; grey images have no saturation.

    Limits: grey is the plain mean of the channels.
    """
    by = [factor.view(-1, 1, 1, 1).to(images) for factor in (brightness, contrast, saturation)]
    images = (images * by[0]).clamp(0, 1)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (middle + (images - middle) * by[1]).clamp(0, 1)
    if images.shape[1] == 1:
        return images
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * by[2]).clamp(0, 1)
