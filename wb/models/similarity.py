"""Similarity of two representations of the same examples.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019, https://arxiv.org/abs/1905.00414,
eq. 3 (linear CKA).
"""

from __future__ import annotations

import torch
from torch import Tensor

_FLAT = 1e-12  # a relative variation below this is rounding


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of x (rows, D) and y (rows, E): 1 if one is a rotated, scaled and shifted copy of the other.

    It is 0 if one of them is constant over the rows. Of the two equivalent formulas, the one with smaller matrices is used.
    """
    x, y = _centred(x), _centred(y)
    if len(x) < max(x.shape[1], y.shape[1]):
        k, g = x @ x.T, y @ y.T  # (rows, rows)
        shared, own, other = (k * g).sum(), k.norm(), g.norm()
    else:
        shared, own, other = (y.T @ x).square().sum(), (x.T @ x).norm(), (y.T @ y).norm()
    size = float(own * other)
    return float(shared) / size if size > 0 else 0.0


def _centred(x: Tensor) -> Tensor:
    x = x.double()
    centred = x - x.mean(dim=0)
    return centred if centred.norm() > _FLAT * x.norm() else torch.zeros_like(x)
