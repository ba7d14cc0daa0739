"""What readings of a pruned model are against its limits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from wb.core.errors import BadOption
from wb.core.metrics import Limit
from wb.core.readings import Readings

Verdict = Literal["met", "within noise", "missed"]


def absolute(limits: Iterable[Limit], dense: Readings) -> tuple[Limit, ...]:
    """The limits in the units of readings; those that `dense` meets already are left out.

    Raises:
        BadOption: all are met already.
    """
    limits = tuple(limits)
    found = [
        Limit(limit.metric, limit.value * dense[limit.metric.name].value) if limit.relative else limit
        for limit in limits
    ]
    left = tuple(limit for limit in found if limit.excess(dense[limit.metric.name]) > 0)
    if not left:
        met = ", ".join(f"{limit.metric.name} is {dense[limit.metric.name].text()}" for limit in found)
        raise BadOption(f"the budget is met already: {met}; nothing was pruned. Give a lower budget")
    return left


def excesses(
    limits: Sequence[Limit], shares: Collection[str], first: Readings, dense: Readings, found: Readings
) -> dict[str, tuple[float, float]]:
    """By metric, how far a reading is over its limit, as a share of it, and how far the low end of its interval is.

    `first` is what the dense model had when the limits were set, `dense` what it has where `found` was read: a latency whose
    limit is a share of the dense one's is compared by the ratio of the two, so that the machine's drift cancels.
    """
    over = {}
    for limit in limits:
        name = limit.metric.name
        drift = dense[name].value / first[name].value if name in shares and name == "latency" else 1.0
        reading = found[name]
        low = reading.interval[0] if reading.interval else reading.value
        over[name] = (reading.value / drift / limit.value - 1, low / drift / limit.value - 1)
    return over


def verdict(over: Mapping[str, tuple[float, float]]) -> Verdict:
    """`met`; `within noise` where a reading is over its limit, but not for sure; `missed` where it is."""
    if all(value <= 0 for value, _ in over.values()):
        return "met"
    return "within noise" if all(low <= 0 for _, low in over.values()) else "missed"
