"""Which networks become finalists, and which are left, where requirements say what is sought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Requirement, meets, violations_of
from wb.search.ending.front import Flags, Ranked, front, ranked, within

Key = TypeVar("Key")
FEWEST = 8  # finalists, if there are as many candidates
NEAREST = 3  # networks that are left where none meets the requirements


def finalists(
    candidates: Mapping[Key, Mapping[str, Reading]],
    metrics: Sequence[Metric],
    limits: Sequence[Limit],
    requirements: Sequence[Requirement],
    count: int = FEWEST,
) -> list[Key]:
    """The front of the candidates that meet all requirements, filled up to `count` with those that nearly do.

    Half of the free places are for candidates that meet what is required of costs, by quality: fine-tuning raises quality and
    leaves costs as they are. Then come the nearest by sum of violations. Candidates over a budget are left out, and quality is
    compared by value.
    """
    allowed = within(candidates, limits)
    meeting = {key: readings for key, readings in allowed.items() if meets(requirements, readings)}
    found = front(meeting, metrics, limits, exact=[metric.name for metric in metrics if metric.quality])
    costs = [one for one in requirements if not one.metric.quality]
    quality = [one for one in requirements if one.metric.quality]
    cheap = {key: readings for key, readings in allowed.items() if meets(costs, readings) and key not in found}
    found += nearest(cheap, quality, max(count - len(found), 0) // 2)
    others = {key: readings for key, readings in allowed.items() if key not in found}
    return found + nearest(others, requirements, max(count - len(found), 0))


def nearest(
    candidates: Mapping[Key, Mapping[str, Reading]], requirements: Sequence[Requirement], count: int | None = None
) -> list[Key]:
    """The keys by sum of violations, the nearest first; `count` of them."""
    return sorted(candidates, key=lambda key: sum(violations_of(requirements, candidates[key])))[:count]


def left(
    candidates: Mapping[Key, Mapping[str, Reading]],
    metrics: Sequence[Metric],
    limits: Sequence[Limit],
    requirements: Sequence[Requirement],
    right: Mapping[Key, Flags] | None = None,
) -> Ranked[Key]:
    """The front of the finalists that meet all requirements; where none does, the nearest of those within the budgets."""
    meeting = {key: readings for key, readings in candidates.items() if meets(requirements, readings)}
    flags = None if right is None else {key: right[key] for key in meeting}
    found = ranked(meeting, metrics, limits, right=flags)
    if found.kept or not requirements:
        return found
    return Ranked(nearest(within(candidates, limits), requirements, NEAREST), {}, {})
