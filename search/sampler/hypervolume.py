"""Hypervolume and dominance of arrays of minimised objectives, one row per point."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wb.core.errors import BadOption

Floats = NDArray[np.float64]


def nondominated(points: ArrayLike) -> Floats:
    """The points that no other point dominates, in the given order; of equal points only the first."""
    array = _points(points)
    return array if not len(array) else array[moocore.is_nondominated(array)]


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume between the points and `reference` that the points dominate, in the product of the objectives' units.

    Points that do not dominate the reference add nothing. Without points the hypervolume is 0.

    Source: Zitzler and Thiele, PPSN V (1998), computed by moocore.

    Raises:
        BadOption: the reference has another number of objectives than the points, or a value is not a number.
    """
    array, corner = _points(points), np.asarray(reference, dtype=np.float64)
    if not len(array):
        return 0.0
    if corner.shape != array.shape[1:]:
        raise BadOption(f"the reference point {corner.tolist()} must have {array.shape[1]} values, one per objective")
    return float(moocore.hypervolume(array, ref=corner))


def hypervolume_curve(points: ArrayLike, reference: ArrayLike) -> Floats:
    """Hypervolume of the first 1, 2, … points, i.e. after each evaluation of a search, shape (points,).

    Raises:
        BadOption: as for `hypervolume`.
    """
    array = _points(points)
    volumes = np.zeros(len(array))
    front = array[:0]
    for i, point in enumerate(array):
        extended = np.vstack([front, point])
        if moocore.is_nondominated(extended)[-1]:
            front = nondominated(extended)
            volumes[i] = hypervolume(front, reference)
        else:
            volumes[i] = volumes[i - 1]
    return volumes


def reference_point(points: ArrayLike, margin: float = 0.1) -> Floats:
    """A point worse than every non-dominated point by `margin` times their range, objective by objective.

    Where the points are equal in an objective, `margin` is a share of that value (absolute if the value is 0).

    Raises:
        BadOption: there are no points.
    """
    front = nondominated(points)
    if not len(front):
        raise BadOption("a reference point needs at least one evaluated point")
    worst, span = front.max(axis=0), np.ptp(front, axis=0)
    size = np.where(worst == 0, 1.0, np.abs(worst))
    return np.asarray(worst + margin * np.where(span > 0, span, size), dtype=np.float64)


def _points(points: ArrayLike) -> Floats:
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, array.shape[1] if array.ndim == 2 else 0)
    if array.ndim != 2 or np.isnan(array).any():
        raise BadOption(f"expected rows of objectives without missing values; got an array of shape {array.shape}")
    return array
