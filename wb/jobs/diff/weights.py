"""The distance of the weights of two models, name by name."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite

import torch
from torch import Tensor

from wb.jobs.diff.record import WeightRow


def compare_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> tuple[WeightRow, ...]:
    """Every weight of both, in the order of A and then of B: distances where the shapes agree, else a note."""
    return tuple(_row(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]))


def equal_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether both have the same names, shapes and values."""
    return a.keys() == b.keys() and all(torch.equal(weight, b[name]) for name, weight in a.items())


def whole_distance(rows: tuple[WeightRow, ...], a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float | None:
    """‖a − b‖ / ‖a‖ over all weights that can be compared, as one vector; None if there are none, or all of A's are zero.

    Those with values that are not finite, as masks of attention have them, are left out.
    """
    names = [row.name for row in rows if row.distance is not None and bool(a[row.name].isfinite().all())]
    apart = sum(float((a[name].double() - b[name].double()).square().sum()) for name in names)
    size = sum(float(a[name].double().square().sum()) for name in names)
    return (apart / size) ** 0.5 if size else None


def _row(name: str, a: Tensor | None, b: Tensor | None) -> WeightRow:
    shapes = [None if weight is None else tuple(weight.shape) for weight in (a, b)]
    if a is None or b is None:
        return WeightRow(name=name, a=shapes[0], b=shapes[1], note="only in B" if a is None else "only in A")
    if shapes[0] != shapes[1]:
        return WeightRow(name=name, a=shapes[0], b=shapes[1], note="other shapes")
    x, y = a.double().flatten(), b.double().flatten()
    size, other = float(x.norm()), float(y.norm())
    if torch.equal(a, b):  # not so of NaN
        return WeightRow(name=name, a=shapes[0], b=shapes[1], distance=0.0, cosine=1.0 if 0 < size < inf else None)
    if not isfinite(size + other):
        return WeightRow(name=name, a=shapes[0], b=shapes[1], note="not finite")
    if not size:
        return WeightRow(name=name, a=shapes[0], b=shapes[1], note="all zero in A")
    cosine = max(-1.0, min(1.0, float(x @ y) / (size * other))) if other else None
    return WeightRow(name=name, a=shapes[0], b=shapes[1], distance=float((x - y).norm()) / size, cosine=cosine)
