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
    ordered = sorted(
        feasible, key=lambda key: tuple(metric.cost(feasible[key][metric.name]) for metric in (*exact, *noisy))
    )
    kept: list[Key] = []
    for key in ordered:
        if not any(_covers(feasible[other], feasible[key], metrics) for other in kept):
            kept.append(key)
    return sorted(kept, key=lambda key: metrics[-1].cost(feasible[key][metrics[-1].name]))


def _covers(a: Mapping[str, Reading], b: Mapping[str, Reading], metrics: Sequence[Metric]) -> bool:
    """Whether `a` is as good as `b` in every metric, as far as one can tell."""
    return all(
        metric.cost(a[metric.name]) <= metric.cost(b[metric.name])
        or (metric.name == "latency" and a["latency"].overlaps(b["latency"]))
        for metric in metrics
    )
