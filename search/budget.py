"""The check of budgets: whether the space can meet them at all, before any time is spent."""

from __future__ import annotations

from collections.abc import Callable

from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.metrics import Limit
from wb.core.precision import allowed, with_precisions
from wb.core.readings import Reading
from wb.data import Dataset
from wb.hardware.device import Device
from wb.search.config import SearchConfig
from wb.search.evaluate import Evaluation, Evaluator
from wb.search.supernet import Supernet
from wb.spaces.base import NetworkSpace


def check_budget(config: SearchConfig, space: NetworkSpace, data: Dataset, device: Device) -> None:
    """Raises `BudgetMissed` if even the smallest network of the space, in its best precision, is over a budget on costs."""
    limits = [limit for limit in config.limits if not limit.metric.quality]
    if not limits:
        return
    evaluate = Evaluator(Supernet.fresh(space, config.seed), data, device)
    found = {architecture: evaluate(architecture).readings for architecture in space.smallest_of_each_precision()}
    for limit in limits:
        least = _least(limit, space, found, evaluate)
        if limit.excess(least) > 0:
            raise BudgetMissed(
                f"{limit.text()} cannot be met: the smallest network of space {space.name!r} ({space.preset}) has "
                f"{least.text()} here; allow more, or reach further down with --set (see `wb spaces`)"
            )


def _least(
    limit: Limit,
    space: NetworkSpace,
    found: dict[Architecture, dict[str, Reading]],
    evaluate: Callable[[Architecture], Evaluation],
) -> Reading:
    """The best reading of the limited metric that the smallest network reaches; evaluated networks are added to `found`.

    If no network in `found` is within the limit, groups get the precision that suits their kind best, one kind after the other.
    Quantizing a small group may add more to a graph than it saves, so that the best policy may mix precisions.
    """

    def excess(architecture: Architecture) -> float:
        if architecture not in found:
            found[architecture] = evaluate(architecture).readings
        return limit.excess(found[architecture][limit.metric.name])

    best = min(found, key=excess)
    if limit.metric.name in ("macs", "params"):  # they do not depend on precision
        return found[best][limit.metric.name]
    kinds: dict[str, list[str]] = {}
    able = allowed(best)
    for group in able:
        kinds.setdefault(".".join(group.split(".")[-2:]), []).append(group)
    for groups in kinds.values():
        for option in space.precisions:
            if excess(best) > 0 and option in able[groups[0]]:
                best = min(best, with_precisions(best, dict.fromkeys(groups, option)), key=excess)
    return found[best][limit.metric.name]
