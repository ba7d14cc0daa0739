"""The check of budgets: whether the space can meet them at all, before any time is spent."""

from __future__ import annotations

from collections.abc import Callable

from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import Limit
from wb.core.measures.readings import Reading
from wb.core.precision import allowed, with_precisions
from wb.data import Dataset
from wb.hardware.device import Device
from wb.search.beginning.config import SearchConfig
from wb.search.evaluate import Evaluation, Evaluator
from wb.search.places import Places
from wb.search.supernet import Supernet
from wb.spaces.base import NetworkSpace


def check_budget(
    config: SearchConfig, space: NetworkSpace, data: Dataset, device: Device, places: Places | None = None
) -> None:
    """Raises `BudgetMissed` if nothing in the space can keep a budget or requirement on costs.

    Even the smallest network, in its best precision, is over it; or even the largest ones are below what is required.
    """
    places = places or Places()
    _check_least(config, space, data, device, places)
    asked = [*config.limits, *(one.limit for one in config.requirements if one.limit is not None)]
    limits = [limit for limit in asked if not limit.metric.quality]
    if not limits:
        return
    evaluate = Evaluator(Supernet.fresh(space, config.seed), data, device, apart=config.apart, places=places)
    found = {architecture: evaluate(architecture).readings for architecture in space.smallest_of_each_precision()}
    for limit in limits:
        least = _least(limit, space, found, evaluate)
        if limit.excess(least) > 0:
            raise BudgetMissed(
                f"{limit.text()} cannot be met: the smallest network of space {space.name!r} ({space.preset}) has "
                f"{least.text()} here; allow more, or reach further down with --set (see `wb spaces`)"
            )


def _check_least(config: SearchConfig, space: NetworkSpace, data: Dataset, device: Device, places: Places) -> None:
    """Raises `BudgetMissed` if even the largest networks of the space cost less than a requirement wants them to."""
    wanted = [one for one in config.requirements if one.limit is None and not one.metric.quality]
    if not wanted:
        return
    evaluate = Evaluator(Supernet.fresh(space, config.seed), data, device, apart=config.apart, places=places)
    found = [evaluate(architecture).readings for architecture in space.tops()]
    for one in wanted:
        most = max((readings[one.metric.name] for readings in found), key=lambda reading: reading.value)
        if not one.met(most.value):
            raise BudgetMissed(
                f"{one.text()} cannot be met: the largest networks of space {space.name!r} ({space.preset}) have at most "
                f"{most.text()} here; ask for less, or reach further up with --set (see `wb spaces`)"
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
