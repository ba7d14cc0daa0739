"""Rotary positions: planes of two channels, each of which turns by its frequency times the place of the token.

Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, eq. 34.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies_(weight: Tensor, base: float) -> None:
    """Fills (H, K) with frequencies from 1 down to nearly 1 / base, the same for all heads."""
    planes = weight.shape[1]
    exponents = -torch.arange(planes, dtype=torch.float64) / planes
    with torch.no_grad():
        weight.copy_(base**exponents)


def table_of(frequencies: Tensor, tokens: int) -> Tensor:
    """The turns at all places, (H or 1, N, 2, K): of one head where all have the same frequencies."""
    same = bool((frequencies == frequencies[:1]).all())
    kept = frequencies.detach()[: 1 if same else None].double()
    return turns(torch.arange(tokens, device=kept.device), kept).float()


def turns(places: Tensor, frequencies: Tensor) -> Tensor:
    """Cosines and sines, (..., H, N, 2, K), at places (..., N) for frequencies (H, K)."""
    angles = places[..., None, :, None].to(frequencies.dtype) * frequencies[:, None, :]
    return torch.stack([angles.cos(), angles.sin()], dim=-2)


def turn(y: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """(..., 2, K), each plane turned -> (..., 2K)."""
    first, second = y[..., 0, :], y[..., 1, :]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
