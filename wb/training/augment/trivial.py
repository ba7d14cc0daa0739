"""TrivialAugment: one change of each image, of a kind and a strength drawn evenly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.training.augment.colour import recoloured
from wb.training.augment.crop import warped

_TURN, _SHEAR, _MOVE = 0.75, 0.5, 0.3  # at most: radians, slope, share of the side
_FACTOR = 0.9  # at most, of brightness, contrast, saturation and sharpness
_BITS = (8, 2)  # levels of posterized images


def trivial(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One change of each of `images` (B, C, H, W) in [0, 1], or none.

    Source: Müller and Hutter, "TrivialAugment", 2021. Differs: no equalize and autocontrast; borders reflect; strengths lie
    between those of its narrow and its wide space.
    """
    count = len(images)
    kind = torch.randint(0, len(_KINDS) + 1, (count,), generator=generator)  # the last one is the identity
    strength, sign = torch.rand(2, count, generator=generator)
    signed = torch.where(sign < 0.5, -strength, strength)
    result = images.clone()
    for number, change in enumerate(_KINDS):
        chosen = (kind == number).nonzero().squeeze(1)
        if len(chosen):
            result[chosen] = change(images[chosen], signed[chosen])
    return result


def _affine(images: Tensor, *entries: tuple[int, int, Tensor]) -> Tensor:
    theta = torch.eye(2, 3).repeat(len(images), 1, 1)
    for row, column, value in entries:
        theta[:, row, column] = value
    return warped(images, theta)


def _turned(images: Tensor, signed: Tensor) -> Tensor:
    angle = _TURN * signed
    sine, cosine = angle.sin(), angle.cos()
    return _affine(images, (0, 0, cosine), (0, 1, -sine), (1, 0, sine), (1, 1, cosine))


def _recoloured(images: Tensor, signed: Tensor, which: int) -> Tensor:
    factors = [torch.ones_like(signed) for _ in range(3)]
    factors[which] = 1 + _FACTOR * signed
    return recoloured(images, *factors)


def _posterized(images: Tensor, signed: Tensor) -> Tensor:
    most, least = _BITS
    levels = 2 ** (most - (most - least) * signed.abs()).round().view(-1, 1, 1, 1) - 1
    return (images * levels).round() / levels


def _solarized(images: Tensor, signed: Tensor) -> Tensor:
    threshold = 1 - signed.abs().view(-1, 1, 1, 1)
    return torch.where(images > threshold, 1 - images, images)


def _sharpened(images: Tensor, signed: Tensor) -> Tensor:
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    factor = 1 + _FACTOR * signed.view(-1, 1, 1, 1)
    return (smooth + (images - smooth) * factor).clamp(0, 1)


_KINDS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    _turned,
    lambda images, signed: _affine(images, (0, 1, _SHEAR * signed)),
    lambda images, signed: _affine(images, (1, 0, _SHEAR * signed)),
    lambda images, signed: _affine(images, (0, 2, 2 * _MOVE * signed)),
    lambda images, signed: _affine(images, (1, 2, 2 * _MOVE * signed)),
    lambda images, signed: _recoloured(images, signed, 0),
    lambda images, signed: _recoloured(images, signed, 1),
    lambda images, signed: _recoloured(images, signed, 2),
    _sharpened,
    _posterized,
    _solarized,
)
