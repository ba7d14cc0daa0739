"""Which network of a front to take, by rules that the page states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wb.core.measures.metrics import METRICS, Limit, Metric
from wb.search.results.point import FrontPoint

MOST_RUNGS = 5
KNEE = "a balance: the knee of the front"


@dataclass(frozen=True)
class Advice:
    """The network `point` for whoever wants `wish`."""

    wish: str
    point: FrontPoint


def knee(points: Sequence[FrontPoint], cost: Metric) -> FrontPoint:
    """The network where accuracy stops being cheap.

    It is the one furthest above the straight line from the cheapest to the best, with quality on the validation split against
    the logarithm of `cost`, both scaled to 0 to 1. Networks that are not surely better than another one do not count. If several
    are as far, as with two networks, it is the best of them.

    Source: Satopää et al., "Finding a Kneedle in a Haystack", 2011, https://doi.org/10.1109/ICDCSW.2011.20
    """
    sure = [point for point in points if point.unsure is None] or list(points)
    costs = _unit([math.log(max(point.values[cost.name].value, 1e-12)) for point in sure])
    worth = _unit([-_quality(point).cost(point.validation) for point in sure])
    # The rounding keeps ends that differ by the last bit from being told apart.
    return sure[max(range(len(sure)), key=lambda i: (round(worth[i] - costs[i], 9), worth[i], -costs[i]))]


def advice(points: Sequence[FrontPoint], metrics: Sequence[Metric], limits: Sequence[Limit]) -> list[Advice]:
    """What to take for which wish: the knee, the ends of the front, and the best under each of a few budgets."""
    costs = [metric for metric in metrics if not metric.quality]
    if not points:
        return []
    if not costs:
        return [Advice(f"the best {metrics[0].title}", points[0])]
    found: list[Advice] = []
    if any(metric.quality for metric in metrics):
        best = most_accurate(points)
        found = [Advice(KNEE, knee(points, costs[-1])), Advice(f"the best {_quality(best).title}", best)]
        if best.unsure is not None:
            than = next((point for point in points if point.id == best.unsure.than), best)
            found.append(Advice(f"the same {_quality(best).title} as far as noise tells, for less", than))
    found += [Advice(f"the least {cost.title}", _least(points, cost)) for cost in costs]
    if any(metric.quality for metric in metrics):
        found += _under(points, costs[-1], limits)
    return found


def most_accurate(points: Sequence[FrontPoint]) -> FrontPoint:
    """The network with the best quality on the validation split."""
    return min(points, key=lambda point: _quality(point).cost(point.validation))


def _under(points: Sequence[FrontPoint], cost: Metric, limits: Sequence[Limit]) -> Iterator[Advice]:
    """The best network under each limit of the run and under round limits on `cost`; the cheapest under one on quality."""
    values = [point.values[cost.name].value for point in points]
    seen: set[int] = set()
    for limit in [*limits, *(Limit(cost, step) for step in _rungs(min(values), max(values)))]:
        within = [point for point in points if limit.excess(point.values[limit.metric.name]) <= 0]
        if not within:
            continue
        if limit.metric.quality:
            yield Advice(f"the least {cost.title} with {limit.text()}", _least(within, cost))
        elif (best := most_accurate(within)).id not in seen:
            seen.add(best.id)
            yield Advice(f"the best {_quality(best).title} with {limit.text()}", best)


def _rungs(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from `low` to below `high`: the `MOST_RUNGS` largest."""
    if low <= 0:
        return []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]
    return [step for step in steps if low <= step < high][-MOST_RUNGS:]


def _least(points: Sequence[FrontPoint], cost: Metric) -> FrontPoint:
    return min(points, key=lambda point: cost.cost(point.values[cost.name]))


def _quality(point: FrontPoint) -> Metric:
    return METRICS[point.quality]


def _unit(values: Sequence[float]) -> list[float]:
    """`values` scaled to 0 to 1; all 0 if they are equal."""
    low, span = min(values), max(values) - min(values)
    return [(value - low) / span if span else 0.0 for value in values]
