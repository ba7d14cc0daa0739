"""Choosing one of several items for each of several places, with least summed error, under limits on summed costs.

The integer program is exact for what it is given; that errors and costs of places add up is the caller's assumption, so that
what is chosen has to be measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from wb.core.errors import Unsupported

_OPTIMAL, _INFEASIBLE = 0, 2  # scipy's status codes
_SHARE = 1e-2  # least error of a solution, relative to the scale: below, the solver's tolerance of 1e-6 would matter


@dataclass(frozen=True)
class Item:
    """What may be chosen for a place: its name there, the error that it adds, and its costs by metric (savings: negative)."""

    name: str
    error: float
    costs: Mapping[str, float] = field(default_factory=dict)


Items = Mapping[str, Sequence[Item]]  # by place, at least one each
Solution = dict[str, Item]


def solve(items: Items, limits: Mapping[str, float], unlike: Collection[Mapping[str, str]] = ()) -> Solution | None:
    """The item for each place such that their summed costs keep the `limits` by metric, with least summed error.

    Errors must not be negative. A solution differs in at least two places from each of `unlike`, names of items by place. None
    if there is no such choice.

    Raises:
        Unsupported: the solver stopped without an answer.
    """
    flat = [(place, item) for place, of_place in items.items() for item in useful(of_place, limits)]
    errors = np.array([item.error for _, item in flat], dtype=float)
    rows = [([item.costs[metric] for _, item in flat], -np.inf, limit) for metric, limit in limits.items()]
    most = len(items) - min(2, len(items))
    rows += [([float(other.get(place) == item.name) for place, item in flat], -np.inf, most) for other in unlike]
    scale = float(errors.max(initial=0.0))
    while True:
        taken = _solved([place for place, _ in flat], errors, rows, scale)
        if taken is None:
            return None
        total = float(errors[taken].sum())
        if total >= _SHARE * scale:
            return {flat[i][0]: flat[i][1] for i in taken}
        scale = total  # no better solution has an item with a larger error; smaller errors now exceed the tolerance


def useful(items: Sequence[Item], metrics: Collection[str]) -> list[Item]:
    """The items that are not dominated: no other one has at most the error and costs at most as much in all `metrics`."""
    kept: list[Item] = []
    for item in sorted(items, key=lambda one: (one.error, *(one.costs[metric] for metric in metrics))):
        if not any(all(one.costs[metric] <= item.costs[metric] for metric in metrics) for one in kept):
            kept.append(item)
    return kept


def _solved(
    places: Sequence[str],
    errors: NDArray[np.float64],
    rows: Sequence[tuple[list[float], float, float]],
    scale: float,
) -> NDArray[np.intp] | None:
    """The indices of the chosen items, none with an error above `scale`; None if there is no solution."""
    names = list(dict.fromkeys(places))
    one = np.array([[place == name for place in places] for name in names], dtype=float)
    constraints = [LinearConstraint(one, 1, 1)]
    for values, least, most in rows:
        row = np.array(values, dtype=float)
        finite = [abs(end) for end in (least, most) if np.isfinite(end)]
        unit = float(np.abs(row).max(initial=max(finite, default=0.0))) or 1.0
        constraints.append(LinearConstraint(row / unit, least / unit, most / unit))
    upper = (errors <= scale).astype(float)
    found = milp(
        errors * upper / (scale or 1.0),
        integrality=np.ones(len(places), dtype=np.int64),
        bounds=Bounds(0, upper),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if found.status == _INFEASIBLE:
        return None
    if found.status != _OPTIMAL or found.x is None:
        raise Unsupported(f"the solver found no choice: {found.message}; give another budget")
    columns: NDArray[np.intp] = np.flatnonzero(found.x > 0.5)
    return columns
