"""Which evaluated candidates are worth having, told apart only where the measurements tell them apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from wb.core.metrics import Limit, Metric
from wb.core.readings import Reading

Key = TypeVar("Key")
Flags = NDArray[np.bool_]


def front(
    candidates: Mapping[Key, Mapping[str, Reading]],
    metrics: Sequence[Metric],
    limits: Sequence[Limit] = (),
    *,
    right: Mapping[Key, Flags] | None = None,
    exact: Collection[str] = (),
) -> list[Key]:
    """The keys of the non-dominated candidates within the limits, the best in the last metric first.

    A candidate dominates another if it is surely better in some metric and surely worse in none. Better is sure where the 95 %
    intervals do not overlap; of accuracies, where `right` says image by image what each candidate named rightly of the same
    images, by McNemar's exact test, which is sharper than the intervals. Counted numbers have no interval: they are sure.
    Of candidates that are nowhere surely different the one with the better values stays. So of any two on a front each is
    surely better than the other in something.

    Metrics named in `exact` are compared by their values alone, for a choice that will be looked at again.
    """
    feasible = {
        key: readings
        for key, readings in candidates.items()
        if all(limit.excess(readings[limit.metric.name]) <= 0 for limit in limits)
    }
    keys = sorted(feasible, key=lambda key: _order(feasible[key], metrics))
    surely = {
        metric.name: _paired(np.array([right[key] for key in keys]))
        if keys and metric.quality and right is not None
        else _by_interval([feasible[key][metric.name] for key in keys], metric, by_value=metric.name in exact)
        for metric in metrics
    }
    worse = np.any([better.T for better in surely.values()], axis=0)  # [i, j]: i is surely worse than j in something
    kept = [keys[i] for i in _undominated(~worse)]
    return sorted(kept, key=lambda key: metrics[-1].cost(feasible[key][metrics[-1].name]))


def _order(readings: Mapping[str, Reading], metrics: Sequence[Metric]) -> tuple[float, ...]:
    """Values, the better the earlier; latency, the noisiest, last."""
    ordered = sorted(metrics, key=lambda metric: metric.name == "latency")
    return tuple(metric.cost(readings[metric.name]) for metric in ordered)


def _by_interval(readings: Sequence[Reading], metric: Metric, *, by_value: bool) -> Flags:
    """[i, j]: whether i is better than j, by more than the intervals of both."""
    spans = [(r.value, r.value) if by_value or r.interval is None else r.interval for r in readings]
    low, high = np.array(spans, dtype=float).reshape(-1, 2).T
    if metric.direction == "maximize":
        low, high = -high, -low
    better: Flags = high[:, None] < low[None, :]
    return better


def _paired(right: Flags) -> Flags:
    """[i, j]: whether i names more of the same images (candidates, images) rightly than j, by more than chance.

    Only images on which the two differ count: if neither were better, each would be right on half of them (McNemar 1947,
    https://doi.org/10.1007/BF02295996, two-sided and exact, at 5 %).
    """
    ones = right.astype(np.int64)
    only = ones @ (1 - ones).T  # [i, j]: images that i has right and j has wrong
    fewer, differ = np.minimum(only, only.T), only + only.T
    better: Flags = (only > only.T) & (2 * binom.cdf(fewer, np.maximum(differ, 1), 0.5) <= 0.05)
    return better


def _undominated(covers: Flags) -> list[int]:
    """Indices such that no kept one covers another, and each other one is covered by one that is kept.

    `covers[i, j]` says that i is as good as j as far as one can tell. Whoever is covered without covering back is looked
    at after those that cover it, else the order is that of the indices. Limits: three metrics, or tests of pairs, can
    go round in a circle (each surely better than the next in something); then the first index goes first, and what it
    leaves out is only covered by what was left out.
    """
    dominates = covers & ~covers.T
    left = list(range(len(covers)))
    kept: list[int] = []
    while left:
        free = (i for i in left if not dominates[left, i].any())
        i = next(free, left[0])
        left.remove(i)
        if not covers[kept, i].any() and not covers[i, kept].any():
            kept.append(i)
    return kept
