"""The Pareto front of evaluated candidates, with measurements told apart only as far as their noise allows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.statistics.scores import Z95

Key = TypeVar("Key")
Flags = NDArray[np.bool_]
Grades = NDArray[Any]


@dataclass(frozen=True)
class Ranked(Generic[Key]):
    """What `ranked` finds.

    `kept` is the front, the best in the last metric first. `alike` names for a network of the front those that it stands for,
    because nothing tells them apart. `unsure` names for a network of the front another one of it that is surely worse in
    nothing: what the former is better in may be noise. Those that it does not name are sure: each is surely better than any
    other of them in some metric.
    """

    kept: list[Key]
    alike: Mapping[Key, tuple[Key, ...]]
    unsure: Mapping[Key, Key]


def front(
    candidates: Mapping[Key, Mapping[str, Reading]],
    metrics: Sequence[Metric],
    limits: Sequence[Limit] = (),
    *,
    right: Mapping[Key, Grades] | None = None,
    exact: Collection[str] = (),
) -> list[Key]:
    """The keys of the candidates on the front, the best in the last metric first; see `ranked`."""
    return ranked(candidates, metrics, limits, right=right, exact=exact).kept


def ranked(
    candidates: Mapping[Key, Mapping[str, Reading]],
    metrics: Sequence[Metric],
    limits: Sequence[Limit] = (),
    *,
    right: Mapping[Key, Grades] | None = None,
    exact: Collection[str] = (),
) -> Ranked[Key]:
    """The front of the candidates within the limits.

    Better is sure if the 95 % intervals do not overlap. For quality metrics with `right`, which says for each candidate which of
    the same images it classifies correctly, McNemar's exact test decides; it is sharper than the intervals. Of what each costs on
    the same passages, the mean difference decides. Counted numbers have no interval and are always sure. Two candidates are told
    apart if one is surely better in some metric.

    A candidate is left out only for another that is surely worse in nothing and that is at least as good by value in every
    metric of quality, or that nothing tells it apart from. So any two networks of a front are told apart by some metric, the
    slower one of two never has the lower accuracy, and of those that nothing tells apart one stays, with the better values. That
    a slower network is more accurate may still be noise: `unsure` names those.

    Metrics in `exact` are compared by value alone, for a preliminary choice.
    """
    feasible = within(candidates, limits)
    keys = sorted(feasible, key=lambda key: _order(feasible[key], metrics))
    surely = {
        metric.name: _paired(np.array([right[key] for key in keys]))
        if keys and metric.quality and right is not None
        else _by_interval([feasible[key][metric.name] for key in keys], metric, by_value=metric.name in exact)
        for metric in metrics
    }
    shape = (len(keys), len(keys))
    not_worse = ~np.any([better.T for better in surely.values()], axis=0).reshape(shape)  # [i, j]: i surely, than j
    alike = not_worse & not_worse.T
    as_good = np.ones(shape, dtype=bool)
    for metric in metrics:
        if metric.quality:
            costs = np.array([metric.cost(feasible[key][metric.name]) for key in keys])
            as_good &= costs[:, None] <= costs[None, :]
    kept = _undominated(not_worse & (as_good | alike))
    last = metrics[-1]
    kept.sort(key=lambda i: last.cost(feasible[keys[i]][last.name]))
    stands = {j: next((i for i in kept if alike[i, j]), None) for j in range(len(keys)) if j not in kept}
    sure = [kept[i] for i in _undominated(not_worse[np.ix_(kept, kept)])]
    sure.sort(key=kept.index)
    doubts = {j: next((i for i in sure if not_worse[i, j]), None) for j in kept if j not in sure}
    return Ranked(
        [keys[i] for i in kept],
        {keys[i]: found for i in kept if (found := tuple(keys[j] for j, other in stands.items() if other == i))},
        {keys[j]: keys[i] for j, i in doubts.items() if i is not None},
    )


def within(
    candidates: Mapping[Key, Mapping[str, Reading]], limits: Sequence[Limit]
) -> dict[Key, Mapping[str, Reading]]:
    """The candidates that keep all budgets."""
    return {
        key: readings
        for key, readings in candidates.items()
        if all(limit.excess(readings[limit.metric.name]) <= 0 for limit in limits)
    }


def _order(readings: Mapping[str, Reading], metrics: Sequence[Metric]) -> tuple[float, ...]:
    """Sort key: better values first; latency, the noisiest metric, decides last."""
    ordered = sorted(metrics, key=lambda metric: metric.name.startswith("latency"))
    return tuple(metric.cost(readings[metric.name]) for metric in ordered)


def _by_interval(readings: Sequence[Reading], metric: Metric, *, by_value: bool) -> Flags:
    """[i, j]: whether i is better than j, with intervals that do not overlap."""
    spans = [(r.value, r.value) if by_value or r.interval is None else r.interval for r in readings]
    low, high = np.array(spans, dtype=float).reshape(-1, 2).T
    if metric.direction == "maximize":
        low, high = -high, -low
    better: Flags = high[:, None] < low[None, :]
    return better


def _paired(right: Grades) -> Flags:
    """[i, j]: whether i classifies more of the same images (candidates, images) correctly than j, by more than chance.

    Only images on which the two differ count: if neither were better, each would be right on half of them (McNemar 1947,
    https://doi.org/10.1007/BF02295996, two-sided and exact, at 5 %).
    """
    if right.dtype != np.bool_:
        return _cheaper(right)
    ones = right.astype(np.int64)
    only = ones @ (1 - ones).T  # [i, j]: images that i has right and j has wrong
    fewer, differ = np.minimum(only, only.T), only + only.T
    better: Flags = (only > only.T) & (2 * binom.cdf(fewer, np.maximum(differ, 1), 0.5) <= 0.05)
    return better


def _cheaper(costs: Grades) -> Flags:
    """[i, j]: whether i costs less than j on the same passages (candidates, passages), by more than chance at 5 %.

    Limits: the normal distribution, for dozens of passages and more.
    """
    apart = costs[:, None, :] - costs[None, :, :]
    error = (
        apart.std(axis=2, ddof=1) / np.sqrt(costs.shape[1]) if costs.shape[1] > 1 else np.full(apart.shape[:2], np.inf)
    )
    better: Flags = apart.mean(axis=2) < -Z95 * error
    return better & ~np.eye(len(costs), dtype=bool)


def _undominated(covers: Flags) -> list[int]:
    """Indices to keep, so that no kept candidate covers another, and every other one is covered by a kept one.

    `covers[i, j]` says that i makes j superfluous. A candidate that is covered without covering back is examined after those
    that cover it; otherwise the order is that of the indices. Limits: with three metrics, or with paired tests, candidates can
    cover each other in a circle. Then the first index is kept, and a candidate that it excludes may be covered only by other
    excluded ones.
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
