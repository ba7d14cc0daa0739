"""In which steps a pruning goes down: one stage for each model that is asked for, some rounds in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wb.compress.assess import absolute
from wb.core.errors import BadOption
from wb.core.metrics import METRICS, Limit
from wb.core.readings import Readings


@dataclass(frozen=True)
class Stage:
    """A model to be left on the way: its limits in the units of readings, and how many rounds lead to it.

    `shares` names the metrics whose limit is a share of the dense model's reading: there it is the ratio that counts.
    """

    name: str
    limits: tuple[Limit, ...]
    rounds: int
    shares: frozenset[str] = frozenset()


def stages_of(given: Sequence[Limit], snapshots: Sequence[float], rounds: int, dense: Readings) -> list[Stage]:
    """The stages towards the limits, with a snapshot at each share of the dense readings of the limited metrics.

    Without limits the last snapshot, a share of the latency, is the end. `rounds` are divided by how far each stage goes
    down, on a logarithmic scale; each gets one at least.

    Raises:
        BadOption: a snapshot that is not above the final limits, or limits that are met already.
    """
    if not given:
        given, snapshots = (Limit(METRICS["latency"], snapshots[-1], relative=True),), snapshots[:-1]
    limits = absolute(given, dense)
    ratios = frozenset(limit.metric.name for limit in given if limit.relative)
    depth = min(_share(limit, dense) for limit in limits)
    shares = [*snapshots, depth]
    if (snapshots and name_of(snapshots[-1]) == name_of(depth)) or list(shares) != sorted(shares, reverse=True):
        raise BadOption(f"snapshot {snapshots[-1]:g}x is not above the budget, {depth:.3g}x of the model; leave it out")
    stages = []
    before = 1.0
    for share in shares:
        part = round(rounds * math.log(share / before) / math.log(depth)) if depth < 1 else 1
        held = limits if share == depth else tuple(_relaxed(limit, share, dense) for limit in limits)
        relaxed = frozenset(one.metric.name for one, limit in zip(held, limits, strict=True) if one.value > limit.value)
        stages.append(Stage(name_of(share), held, max(1, part), ratios | relaxed))
        before = share
    return [*stages[:-1], replace(stages[-1], name="")]


def name_of(share: float) -> str:
    """What the model of a snapshot is called: `0.75x`."""
    return f"{share:.3g}x"


def _share(limit: Limit, dense: Readings) -> float:
    return limit.value / dense[limit.metric.name].value


def _relaxed(limit: Limit, share: float, dense: Readings) -> Limit:
    """`limit`, but no lower than that share of the dense reading."""
    return replace(limit, value=max(limit.value, share * dense[limit.metric.name].value))
