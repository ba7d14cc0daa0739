"""Landing: the last round of a stage, repeated until the readings of the whole model, not predictions, meet the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wb.compress.nvit.cost import Cost
from wb.compress.nvit.nvit import Pruned
from wb.compress.prune.stages import Stage
from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import LATENCIES
from wb.core.measures.readings import Readings
from wb.export.assess import QUICK_S, Assessor
from wb.models.model import Model

ATTEMPTS = 8
NUDGE = 0.97  # of an aim, for each attempt that changed nothing
SLACK = 0.02  # this close below a budget is close enough: about the difference between two readings of one network
EXACT_SLACK = 0.005
EXACT = ("macs", "params", "energy")  # counted metrics are as predicted, so that the first aim is the limit itself

Aims = dict[str, float]


class _Attempt(NamedTuple):
    """One try: how far the model is over the limits, the aims, the model, and the metrics it is over in words."""

    over: float
    aims: Aims
    landed: Pruned
    text: str

    def rank(self) -> tuple[bool, float]:
        """Sort key: attempts within the limits before those beyond, then the closest to the limits; of equals the first wins."""
        return self.over <= 0, -abs(self.over)


@dataclass(frozen=True)
class Landing:
    """Repeats `cut(state, aims)` with corrected aims until the model's readings are just within the limits.

    `finished` adds to a cut model the history that it will have in the end, which is part of its file's size.
    """

    cut: Callable[[Pruned, Mapping[str, float]], Pruned]
    finished: Callable[[Model], Model]
    assess: Assessor
    stage: Stage
    dense: Model
    progress: Progress

    def __call__(self, state: Pruned) -> tuple[Aims, Pruned]:
        """The aims and the model of the best attempt: of those within the limits, the closest to them.

        A snapshot on the way need not be within its limits: it is the closest attempt.

        Raises:
            BudgetMissed: the last stage has no attempt within its limits, or nothing is left to remove.
        """
        best: _Attempt | None = None
        seen: set[str] = set()
        tried: dict[str, list[tuple[float, float]]] = {limit.metric.name: [] for limit in self.stage.limits}
        stuck = (
            0  # attempts that gave a model beyond the limits again: units are coarse, and aims too near to each other
        )
        for attempt in range(ATTEMPTS):
            if attempt:
                self.progress("correcting the budget", attempt, ATTEMPTS)
            shares = {name: NUDGE**stuck * _share(name, pairs) for name, pairs in tried.items()}
            aims = {limit.metric.name: shares[limit.metric.name] * limit.value for limit in self.stage.limits}
            landed = self.cut(state, aims)
            key = landed.model.architecture.key
            if key in seen and best is not None and best.over <= 0:
                break  # no model lies between this one and the limit
            stuck += key in seen
            seen.add(key)
            found, text = self._read(landed.model)
            over = max(found.values())
            best = max(
                (one for one in (best, _Attempt(over, aims, landed, text)) if one is not None), key=_Attempt.rank
            )
            if over <= 0 and any(-_slack(name) <= value for name, value in found.items()):
                break
            for name, pairs in tried.items():
                if found[name] > 0 or found[name] == over:  # the aim of a limit that does not bind stays
                    pairs.append((shares[name], found[name]))
        if best is None or (best.over > 0 and not self.stage.name):
            raise BudgetMissed(
                f"the budget could not be met in {ATTEMPTS} attempts; in the closest {best.text if best else 'none'}. Allow a "
                "little more, or measure on a quieter machine"
            )
        return best.aims, best.landed

    def _read(self, model: Model) -> tuple[dict[str, float], str]:
        """By metric, how far the model is over its limit, as a share (at most 0 if within); and the excess in words."""
        timed = any(limit.metric.name in LATENCIES for limit in self.stage.limits)
        models = {"dense": self.dense, "pruned": self.finished(model)}
        found: list[dict[str, float]] = []
        text = ""
        # A latency within the limits is read twice, because one set of sessions may be fast by luck.
        while len(found) < (2 if timed else 1) and all(max(over.values()) <= 0 for over in found):
            readings = self.assess(models, cap_s=QUICK_S, timed=timed)
            judged = self.stage.judged(readings["dense"], readings["pruned"])
            found.append({one.metric: one.over for one in judged})
            text = " and ".join(one.text("the dense model") for one in judged if one.over > 0) or text
        return {name: max(found[0][name], sum(over[name] for over in found) / len(found)) for name in found[0]}, text


def next_share(tried: Sequence[tuple[float, float]], slack: float = SLACK) -> float:
    """The share of a limit to aim at next; `tried` are pairs of a share and how far its model was over the limit.

    The goal is the middle of the slack below the limit. The second aim is in proportion to the first. Later aims follow the
    secant through the last two (some cost does not depend on the share). Where the guess falls outside the bracket of the
    largest share within and the smallest share beyond the limit, the next aim is their geometric mean.
    """
    if not tried:
        return 1 - slack / 2
    share, over = tried[-1]
    guess = share / (1 + over + slack / 2)
    if len(tried) > 1 and tried[-2][1] != over:
        before, over_before = tried[-2]
        line = share + (-slack / 2 - over) * (share - before) / (over - over_before)
        guess = line if line > 0 else guess
    within = max((s for s, over in tried if over <= 0), default=None)
    beyond = min((s for s, over in tried if over > 0), default=None)
    if within is not None and beyond is not None and not within < guess < beyond:
        return math.sqrt(within * beyond)
    return guess


def read_costs(costs: Mapping[str, Cost], first: Readings, dense: Readings, found: Readings) -> dict[str, float]:
    """The readings of a network for the cost models, by metric; a metric that was not read is left out.

    `first` is the dense model's reading from when the limits were set, `dense` its reading of now. Their ratio removes the
    machine's drift from a latency.
    """
    values = {metric: found[metric].value for metric in costs if metric in found}
    for metric in values.keys() & set(LATENCIES):
        values[metric] *= first[metric].value / dense[metric].value
    return values


def correct(costs: Mapping[str, Cost], architecture: Architecture, values: Mapping[str, float]) -> None:
    """Calibrates the cost models so that they predict the readings `values` for `architecture`."""
    for metric, value in values.items():
        cost = costs[metric]
        if metric == "size":
            cost.constant += (value - cost(architecture)) / cost.factor
        else:
            cost.factor *= value / cost(architecture)


def _slack(metric: str) -> float:
    return EXACT_SLACK if metric in EXACT else SLACK


def _share(metric: str, tried: Sequence[tuple[float, float]]) -> float:
    if metric in EXACT and not tried:
        return 1.0
    return next_share(tried, _slack(metric))
