"""The last round of a pruning, repeated until what is read of the whole model, not what is predicted, meets the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wb.compress.assess import QUICK_S, Assessor, relative_excess
from wb.compress.cost import Cost
from wb.compress.nvit import Pruned
from wb.compress.stages import Stage
from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.readings import Reading, Readings
from wb.models.model import Model

ATTEMPTS = 8
SLACK = 0.02  # how far below a budget is close enough
AIM = 0.99  # of a budget, where what is read is not quite what was predicted
EXACT = ("macs", "params")  # what is counted is as predicted

Aims = dict[str, float]


@dataclass(frozen=True)
class Landing:
    """`cut(state, aims)` gives a smaller model; its readings correct the costs, until it is just within the limits."""

    cut: Callable[[Pruned, Mapping[str, float]], Pruned]
    assess: Assessor
    costs: Mapping[str, Cost]
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
        over = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                self.report("correcting the budget", attempt, ATTEMPTS)
            aims = {
                limit.metric.name: limit.value * (1.0 if limit.metric.name in EXACT else AIM)
                for limit in self.stage.limits
            }
            landed = self.cut(state, aims)
            architecture = landed.model.architecture
            if architecture.key in seen and best is not None:
                break  # there is nothing between this one and the limit
            seen.add(architecture.key)
            readings = self._read(landed.model)
            over = self._over(readings)
            if over <= 0 and self._timed:
                # Once more with sessions of its own: the luck of one measurement is not the network's merit.
                again = self._read(landed.model)
                over = max(over, (over + self._over(again)) / 2)
            if over <= 0 and (best is None or over > best[0]):
                best = (over, aims, landed)
            if -SLACK <= over <= 0:
                break
            values = read_costs(self.costs, self.first, readings["dense"], readings["pruned"])
            correct(self.costs, architecture, values)
        if best is None:
            limits = ", ".join(limit.text() for limit in self.stage.limits)
            raise BudgetMissed(
                f"{limits} could not be met in {ATTEMPTS} attempts, the last was {100 * over:.1f} % over; allow a little "
                "more, or measure on a quieter machine"
            )
        return best[1], best[2]

    @property
    def _timed(self) -> bool:
        return any(limit.metric.name == "latency" for limit in self.stage.limits)

    def _read(self, model: Model) -> dict[str, dict[str, Reading]]:
        return self.assess({"dense": self.dense, "pruned": model}, cap_s=QUICK_S, timed=self._timed)

    def _over(self, readings: Mapping[str, Readings]) -> float:
        return relative_excess(self.stage.limits, self.first, readings["dense"], readings["pruned"])


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
            cost.constant += value - cost(architecture)
        else:
            cost.factor *= value / cost(architecture)
