"""The last round of a pruning, repeated until what is read of the whole model, not what is predicted, meets the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wb.compress.assess import QUICK_S, Assessor, relative_excess
from wb.compress.cost import Cost
from wb.compress.nvit import Pruned
from wb.compress.stages import Stage
from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.metrics import Limit
from wb.core.readings import Readings
from wb.models.model import Model

ATTEMPTS = 8
SLACK = 0.02  # how far below a budget is close enough
AIM = 0.99  # of a budget, where what is read is not quite what was predicted
EXACT = ("macs", "params")  # what is counted is as predicted

Aims = dict[str, float]


@dataclass(frozen=True)
class Landing:
    """`cut(state, aims)` gives a smaller model; what is read of it moves the aims, until it is just within the limits.

    `finished` makes of a cut model what it will be in the end (its history is part of its file's size).
    """

    cut: Callable[[Pruned, Mapping[str, float]], Pruned]
    finished: Callable[[Model], Model]
    assess: Assessor
    stage: Stage
    dense: Model
    first: Readings  # of the dense model, when the limits were set
    report: Callable[[str, int, int], None]

    def __call__(self, state: Pruned) -> tuple[Aims, Pruned]:
        """What was aimed at in the best attempt, and its model: the one closest to the limits of those within.

        Raises:
            BudgetMissed: none is within, or nothing is left to remove.
        """
        best: tuple[float, Aims, Pruned] | None = None
        seen: set[str] = set()
        tried: list[tuple[float, float]] = []
        over = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                self.report("correcting the budget", attempt, ATTEMPTS)
            share = next_share(tried)
            aims = {limit.metric.name: share * limit.value * _aim(limit) for limit in self.stage.limits}
            landed = self.cut(state, aims)
            key = landed.model.architecture.key
            if key in seen and best is not None:
                break  # there is nothing between this one and the limit
            seen.add(key)
            over = self._read(landed.model)
            if over <= 0 and (best is None or over > best[0]):
                best = (over, aims, landed)
            if -SLACK <= over <= 0:
                break
            tried.append((share, over))
        if best is None:
            limits = ", ".join(limit.text() for limit in self.stage.limits)
            raise BudgetMissed(
                f"{limits} could not be met in {ATTEMPTS} attempts, the last was {100 * over:.1f} % over; allow a little "
                "more, or measure on a quieter machine"
            )
        return best[1], best[2]

    def _read(self, model: Model) -> float:
        """How far the model is over its limits, as a share; not above 0 if it keeps them."""
        timed = any(limit.metric.name == "latency" for limit in self.stage.limits)
        models = {"dense": self.dense, "pruned": self.finished(model)}
        over = -1.0
        found: list[float] = []
        # A latency within the limits is read twice: the luck of one set of sessions is not the network's merit.
        while over <= 0 and len(found) < (2 if timed else 1):
            readings = self.assess(models, cap_s=QUICK_S, timed=timed)
            found.append(relative_excess(self.stage.limits, self.first, readings["dense"], readings["pruned"]))
            over = max(found[0], sum(found) / len(found))
        return over


def next_share(tried: Sequence[tuple[float, float]]) -> float:
    """What share of the limits to aim at, after `tried`: pairs of a share and how far its model was over the limits.

    In proportion after the first, then along the line through the last two (what is not pruned costs the same whatever the
    share), and halfway between what was within the limits and what was over where that leads out of there.
    """
    if not tried:
        return 1.0
    share, over = tried[-1]
    guess = share / (1 + over + SLACK / 2)
    if len(tried) > 1 and tried[-2][1] != over:
        before, over_before = tried[-2]
        line = share + (-SLACK / 2 - over) * (share - before) / (over - over_before)
        guess = line if line > 0 else guess
    within = max((s for s, over in tried if over <= 0), default=None)
    beyond = min((s for s, over in tried if over > 0), default=None)
    if within is not None and beyond is not None and not within < guess < beyond:
        return math.sqrt(within * beyond)
    return guess


def read_costs(costs: Mapping[str, Cost], first: Readings, dense: Readings, found: Readings) -> dict[str, float]:
    """What was read of a network, for every cost; a metric that was not read is left out.

    `first` is what the dense model had when the limits were set, `dense` what it has now: the machine's drift between them
    is taken out of a latency.
    """
    values = {metric: found[metric].value for metric in costs if metric in found}
    if "latency" in values:
        values["latency"] *= first["latency"].value / dense["latency"].value
    return values


def correct(costs: Mapping[str, Cost], architecture: Architecture, values: Mapping[str, float]) -> None:
    """Sets the costs so that they predict for `architecture` what was read of it."""
    for metric, value in values.items():
        cost = costs[metric]
        if metric == "size":
            cost.constant += (value - cost(architecture)) / cost.factor
        else:
            cost.factor *= value / cost(architecture)


def _aim(limit: Limit) -> float:
    return 1.0 if limit.metric.name in EXACT else AIM
