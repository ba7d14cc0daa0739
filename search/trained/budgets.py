"""The budgets of several networks: `latency=0.5x,0.3x` asks for two."""

from __future__ import annotations

from collections.abc import Sequence

from wb.core.errors import BadOption
from wb.core.measures.metrics import CONTINUING, COSTS, METRICS, Limit, Rules, parse_budget
from wb.search.alternatives.costs import ABOVE

LIMITED = Rules((*COSTS, *CONTINUING))
LEAST = 0.02  # of the model, the end of a front that goes down to the least there is

Point = tuple[Limit, ...]  # the limits of one network


def parse_points(texts: Sequence[str]) -> list[Point]:
    """The limits of each network, in the order in which they are given.

    A value without a name is one more of the metric before it: one more network. A metric with one value limits all networks.

    Raises:
        BadOption: no budgets, or two metrics with different numbers of values.
    """
    values: dict[str, list[Limit]] = {}
    last = ""
    for part in [part.strip() for text in texts for part in text.split(",") if part.strip()]:
        last = part.partition("=")[0].strip() if "=" in part else last
        (limit,) = parse_budget([part if "=" in part or not last else f"{last}={part}"], LIMITED)
        values.setdefault(limit.metric.name, []).append(limit)
    if not values:
        raise BadOption(f"{list(texts)} is no budget; say for example --budget latency=0.5x,0.3x")
    counts = {len(limits) for limits in values.values()} - {1}
    if len(counts) > 1:
        said = " and ".join(f"{len(limits)} on {name}" for name, limits in values.items())
        raise BadOption(f"there are {said}; give each metric one budget for all networks, or one for each")
    count = max(counts, default=1)
    points = [tuple(limits[i % len(limits)] for limits in values.values()) for i in range(count)]
    names = [name_of(point) for point in points]
    if len(set(names)) < count:
        raise BadOption(f"a budget comes twice in {', '.join(names)}; name each once")
    return points


def ladder(count: int, end: Limit, whole: float, least: float) -> list[Point]:
    """`count` budgets at equal ratios, from below a model that costs `whole` to `end`, or as far as `least` allows.

    Raises:
        BadOption: the end is above the model, or so near to it that networks cannot be told apart by their names.
    """
    share = max(end.value if end.relative else end.value / whole, ABOVE * least / whole, LEAST)
    if share >= 1:
        raise BadOption(f"a front cannot go down to {end.text()}: the model is at it already; give a lower budget")
    points: list[Point] = [(Limit(end.metric, share ** (i / count), relative=True),) for i in range(1, count + 1)]
    if len({name_of(point) for point in points}) < count:
        raise BadOption(
            f"{count} networks from the model down to {share:.3g} of its {end.metric.name} are too near to each other; give "
            "a smaller --front or a lower budget"
        )
    return points


def name_of(point: Point) -> str:
    """The name of a network and of its files: `latency-0.5x`."""
    return "-".join(f"{limit.metric.name}-{_amount(limit)}" for limit in point)


def _amount(limit: Limit) -> str:
    return f"{limit.value:.3g}x" if limit.relative else f"{limit.value:.6g}{_letters(limit.metric.name)}"


def _letters(metric: str) -> str:
    unit = METRICS[metric].unit
    return unit if len(unit) <= 2 else ""
