"""In which steps a pruning goes down: one stage for each model that is asked for, some rounds in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wb.core.errors import BadOption
from wb.core.metrics import METRICS, Limit
from wb.core.readings import Readings


@dataclass(frozen=True)
class Stage:
    """A model to be left on the way: its limits in the units of readings, and how many rounds lead to it."""

    name: str
    limits: tuple[Limit, ...]
    rounds: int


def stages_of(limits: Sequence[Limit], snapshots: Sequence[float], rounds: int, dense: Readings) -> list[Stage]:
    """The stages towards absolute `limits`, with a snapshot at each share of the dense readings of the limited metrics.

    Without limits the last snapshot, a share of the latency, is the end. `rounds` are divided by how far each stage goes
    down, on a logarithmic scale; each gets one at least.

    Raises:
        BadOption: a snapshot that is below the final limits.
    """
    limits = tuple(limits)
    if not limits:
        latency = METRICS["latency"]
        limits = (Limit(latency, snapshots[-1] * dense["latency"].value),)
        snapshots = snapshots[:-1]
    depth = min(_share(limit, dense) for limit in limits)
    shares = [*snapshots, depth]
    if (snapshots and name_of(snapshots[-1]) == name_of(depth)) or list(shares) != sorted(shares, reverse=True):
        raise BadOption(f"snapshot {snapshots[-1]:g}x is not above the budget, {depth:.3g}x of the model; leave it out")
    stages = []
    before = 1.0
    for share in shares:
        part = round(rounds * math.log(share / before) / math.log(depth)) if depth < 1 else 1
        held = limits if share == depth else tuple(_relaxed(limit, share, dense) for limit in limits)
        stages.append(Stage(name_of(share), held, max(1, part)))
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
