"""Hypervolume and dominance of arrays of minimised objectives, one row per point."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wb.core.errors import BadOption

Floats = NDArray[np.float64]


def nondominated(points: ArrayLike) -> Floats:
    """The points that no other dominates, in order; of equal points the first."""
    array = _points(points)
    return array if not len(array) else array[moocore.is_nondominated(array)]


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate up to `reference`, in the product of the objectives' units.

    Points that do not dominate the reference add nothing; without points it is 0.

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
    """The hypervolume of the first 1, 2, … points: what a search had after so many evaluations.

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
    """A point worse than every non-dominated one, by `margin` of their range in each objective.

    Where they are all equal in an objective, by `margin` of its size (or by `margin` if that is 0).

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
