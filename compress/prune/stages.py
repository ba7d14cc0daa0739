"""The stages of a pruning: one for each model that is asked for, from large to small, with some rounds in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, Limit, usual_latency
from wb.core.measures.readings import Readings
from wb.core.statistics.verdict import Judgement, judge


@dataclass(frozen=True)
class Stage:
    """One model to be made: its limits in the units of readings, and how many rounds lead to it.

    `shares` has, by metric, the limits that are a share of the dense model's reading. Their ratio to a reading of the same
    sitting is judged, so that the machine's drift cancels.
    """

    name: str
    limits: tuple[Limit, ...]
    rounds: int
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def asked(self) -> tuple[Limit, ...]:
        """The limits as they were asked for, relative ones as shares."""
        return tuple(
            Limit(limit.metric, self.shares[limit.metric.name], relative=True)
            if limit.metric.name in self.shares
            else limit
            for limit in self.limits
        )

    def judged(self, dense: Readings, found: Readings) -> tuple[Judgement, ...]:
        """Judges the readings `found` against the limits; `dense` is the dense model's reading of the same sitting."""
        return tuple(judge(limit, found[limit.metric.name], dense[limit.metric.name]) for limit in self.asked)


def stages_of(given: Sequence[Limit], snapshots: Sequence[float], rounds: int, dense: Readings) -> list[Stage]:
    """The stages towards the limits, with a snapshot at each share of the dense readings of the limited metrics.

    Without limits the last snapshot, a share of the latency, is the final limit. The `rounds` are divided among the stages in
    proportion to the logarithm of each stage's reduction; each stage gets at least one.

    Raises:
        BadOption: a snapshot that is not above the final limits, or limits that are met already.
    """
    if not given:
        given, snapshots = (Limit(METRICS[usual_latency(dense)], snapshots[-1], relative=True),), snapshots[:-1]
    given = unmet(given, dense)
    limits = tuple(limit.against(dense[limit.metric.name]) for limit in given)
    ratios = {limit.metric.name: limit.value for limit in given if limit.relative}
    depth = min(_share(limit, dense) for limit in limits)
    shares = [*snapshots, depth]
    if (snapshots and name_of(snapshots[-1]) == name_of(depth)) or list(shares) != sorted(shares, reverse=True):
        raise BadOption(f"snapshot {snapshots[-1]:g}x is not above the budget, {depth:.3g}x of the model; leave it out")
    stages = []
    before = 1.0
    for share in shares:
        part = round(rounds * math.log(share / before) / math.log(depth)) if depth < 1 else 1
        held = limits if share == depth else tuple(_relaxed(limit, share, dense) for limit in limits)
        relaxed = {one.metric.name: share for one, limit in zip(held, limits, strict=True) if one.value > limit.value}
        stages.append(Stage(name_of(share), held, max(1, part), ratios | relaxed))
        before = share
    return [*stages[:-1], replace(stages[-1], name="")]


def unmet(limits: Iterable[Limit], dense: Readings) -> tuple[Limit, ...]:
    """The limits that the dense model does not meet already.

    Raises:
        BadOption: it meets all of them.
    """
    limits = tuple(limits)
    judged = [(limit, judge(limit, dense[limit.metric.name], dense[limit.metric.name])) for limit in limits]
    left = tuple(limit for limit, one in judged if one.over > 0)
    if not left:
        met = ", ".join(f"{name} is {dense[name].text()}" for name in (limit.metric.name for limit in limits))
        raise BadOption(f"the budget is met already: {met}; nothing was pruned. Give a lower budget")
    return left


def name_of(share: float) -> str:
    """The name of a snapshot's model: `0.75x`."""
    return f"{share:.3g}x"


def _share(limit: Limit, dense: Readings) -> float:
    return limit.value / dense[limit.metric.name].value


def _relaxed(limit: Limit, share: float, dense: Readings) -> Limit:
    """`limit`, raised to at least that share of the dense reading."""
    return replace(limit, value=max(limit.value, share * dense[limit.metric.name].value))
