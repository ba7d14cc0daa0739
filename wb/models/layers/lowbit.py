"""Binary and ternary weights: one scale per output channel, straight-through gradients.

Source: binary, Rastegari et al., "XNOR-Net", 2016, eq. 6: W ≈ α sign(W), α = mean |W| of the row. Ternary, Li et al.,
"Ternary Weight Networks", 2016, eq. 5-6: zero where |W| <= 0.7 mean |W|, α = mean |W| of the others. Gradients, Bengio et
al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013: those of the rounded weights, unchanged.
Differs: inputs stay in floating point; the gradient is not clipped to |W| <= 1, which weights of this size never exceed.

Rounding is idempotent, so that a file of rounded weights and a file of latent weights compute the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wb.core.records import Precision

THRESHOLD = 0.7


def low_bit(weight: Tensor, precision: Precision, rows: int) -> Tensor:
    """`weight` as the network uses it: rounded for `w1` and `w2`, otherwise unchanged.

    The first `rows` dimensions are output channels; each has one scale for all other dimensions.
    """
    if precision not in ("w1", "w2"):
        return weight
    rounded = _rounded(weight.detach(), precision, tuple(range(rows, weight.dim())))
    if not (weight.requires_grad and torch.is_grad_enabled()):
        return rounded
    return weight + (rounded - weight.detach())  # the value of `rounded`, the gradient of `weight`


def _rounded(weight: Tensor, precision: Precision, summed: tuple[int, ...]) -> Tensor:
    size = weight.abs()
    if precision == "w1":
        return torch.where(weight < 0, -1.0, 1.0).to(weight) * size.mean(dim=summed, keepdim=True)
    kept = (size > THRESHOLD * size.mean(dim=summed, keepdim=True)).to(weight)
    scale = (size * kept).sum(dim=summed, keepdim=True) / kept.sum(dim=summed, keepdim=True).clamp(min=1)
    return weight.sign() * kept * scale
