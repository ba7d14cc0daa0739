"""Which evaluated candidates are worth having, told apart only where the measurements tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from wb.core.metrics import Limit, Metric
from wb.core.readings import Reading

Key = TypeVar("Key")


def front(
    candidates: Mapping[Key, Mapping[str, Reading]], metrics: Sequence[Metric], limits: Sequence[Limit] = ()
) -> list[Key]:
    """The keys of the non-dominated candidates within the limits, the best in the last metric first.

    One candidate dominates another if it is at least as good in every metric, where measured latencies whose intervals
    overlap count as equal, and better in one. Of candidates that this does not tell apart the one with the better values
    stays. So two points of a front never differ by what may be noise only.

    Counted numbers and accuracies on the same examples are compared as they are.
    """
    feasible = {
        key: readings
        for key, readings in candidates.items()
        if all(limit.excess(readings[limit.metric.name]) <= 0 for limit in limits)
    }
    # Sorted so that whatever could dominate a candidate comes before it: exact metrics first, then noisy ones.
    exact = [metric for metric in metrics if metric.name != "latency"]
    noisy = [metric for metric in metrics if metric.name == "latency"]
    ordered = sorted(feasible, key=lambda key: tuple(_cost(feasible[key], metric) for metric in (*exact, *noisy)))
    kept: list[Key] = []
    for key in ordered:
        if not any(_covers(feasible[other], feasible[key], metrics) for other in kept):
            kept.append(key)
    # Overlap is not transitive: something kept early may be covered by something that came later.
    kept = [
        key
        for i, key in enumerate(kept)
        if not any(_covers(feasible[other], feasible[key], metrics, strictly=True) for other in kept[i + 1 :])
    ]
    return sorted(kept, key=lambda key: _cost(feasible[key], metrics[-1]))


def _cost(readings: Mapping[str, Reading], metric: Metric) -> float:
    value = readings[metric.name].value
    return value if metric.direction == "minimize" else -value


def _covers(
    a: Mapping[str, Reading], b: Mapping[str, Reading], metrics: Sequence[Metric], *, strictly: bool = False
) -> bool:
    """Whether `a` is as good as `b` in every metric, as far as one can tell; `strictly`: and better in one for certain."""
    better = False
    for metric in metrics:
        difference = _cost(a, metric) - _cost(b, metric)
        if metric.name == "latency" and a["latency"].overlaps(b["latency"]):
            continue
        if difference > 0:
            return False
        better = better or difference < 0
    return better or not strictly
