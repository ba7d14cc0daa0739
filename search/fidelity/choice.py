"""The choice among evaluated candidates: who climbs a rung, and who is a finalist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Requirement
from wb.search.ending.front import front, within
from wb.search.judgement.choice import FEWEST, finalists
from wb.search.study.trials import readings_of

MAX_FINALISTS = 24  # with three or four objectives nearly everything is non-dominated
Known = Mapping[int, Mapping[str, Reading]]  # number of the trial -> metric -> reading


def choose(
    trials: Sequence[FrozenTrial],
    metrics: Sequence[Metric],
    limits: Sequence[Limit],
    count: int | None = None,
    qualities: Mapping[int, Reading] | None = None,
    requirements: Sequence[Requirement] = (),
) -> dict[int, FrozenTrial]:
    """The finalists by trial number: the front of the evaluated candidates or, given `count`, as many of the most promising.

    Of a front larger than that, or than `MAX_FINALISTS`, the candidates that add most hypervolume. `qualities` are those of
    the candidates that were trained alone, of which the finalists then are, in place of those inherited from the supernet.

    With requirements they are those that meet them, and some that nearly do (`wb.search.judgement.choice.finalists`).

    Raises:
        BudgetMissed: no evaluated candidate is within the budget.
    """
    readings = known(trials, metrics, qualities)
    exact = [metric.name for metric in metrics if metric.quality]  # by value: intervals count after fine-tuning
    wanted = FEWEST if requirements and count is None else count
    if wanted is None:
        numbers = front(readings, metrics, limits, exact=exact)
    else:
        numbers = promising(readings, metrics, limits, wanted, requirements)
    if not numbers:
        raise BudgetMissed(
            f"none of {len(trials)} evaluated candidates is within the budget; {closest(readings, limits)}. Continue with more "
            "--trials, or allow more"
        )
    if count is None and len(numbers) > MAX_FINALISTS:
        numbers = _picked(numbers, readings, metrics, MAX_FINALISTS)
    return {trial.number: trial for trial in trials if trial.number in set(numbers)}


def promising(
    readings: Known,
    metrics: Sequence[Metric],
    limits: Sequence[Limit],
    count: int,
    requirements: Sequence[Requirement] = (),
) -> list[int]:
    """The numbers of at most `count` candidates within the limits: those that nothing beats, then those that only they beat.

    Values are compared as they are, since many are wanted. Fronts span all objectives; of the last one that has room, those
    stay that add most hypervolume. With requirements those come first that meet them, then those that nearly do.
    """
    if requirements:
        return _picked(finalists(readings, metrics, limits, requirements, count), readings, metrics, count)
    feasible = list(within(readings, limits))
    if not feasible:
        return []
    ranks = moocore.pareto_rank(_costs(feasible, readings, metrics))
    chosen: list[int] = []
    for rank in range(int(ranks.max()) + 1):
        if len(chosen) == count:
            break
        layer = [number for number, own in zip(feasible, ranks, strict=True) if own == rank]
        chosen += _picked(layer, readings, metrics, count - len(chosen))
    return chosen


def known(
    trials: Sequence[FrozenTrial], metrics: Sequence[Metric], qualities: Mapping[int, Reading] | None = None
) -> dict[int, dict[str, Reading]]:
    """The readings of the trials; with `qualities` of those alone that have one, which is then the reading of quality."""
    found = {trial.number: readings_of(trial) for trial in trials}
    if qualities is None:
        return found
    names = [metric.name for metric in metrics if metric.quality]
    return {n: {**found[n], **dict.fromkeys(names, reading)} for n, reading in qualities.items() if n in found}


def _picked(numbers: Sequence[int], readings: Known, metrics: Sequence[Metric], count: int) -> list[int]:
    """At most `count` of the numbers; again and again the one goes that adds least hypervolume, costs in logarithms.

    The best in quality stay as long as there is room for these. The cheapest does not by itself: where another is nearly as cheap
    and much better, nobody takes it.
    """
    left = list(numbers)
    if len(left) <= count:
        return left
    values = _costs(left, readings, metrics)
    for column, metric in enumerate(metrics):
        if not metric.quality and (values[:, column] > 0).all():
            values[:, column] = np.log(values[:, column])
    span = np.ptp(values, axis=0)
    unit = (values - values.min(axis=0)) / np.where(span > 0, span, 1)
    ends = {int(i) for i, metric in zip(unit.argmin(axis=0), metrics, strict=True) if metric.quality}
    kept = list(range(len(left)))
    while len(kept) > max(count, 0):
        worth = moocore.hv_contributions(unit[kept], ref=np.full(len(metrics), 1.1))
        if count >= len(ends):
            worth[[place for place, i in enumerate(kept) if i in ends]] = np.inf
        kept.pop(int(np.argmin(worth)))
    return [left[i] for i in kept]


def _costs(numbers: Sequence[int], readings: Known, metrics: Sequence[Metric]) -> NDArray[np.float64]:
    return np.array([[metric.cost(readings[n][metric.name]) for metric in metrics] for n in numbers], dtype=float)


def closest(readings: Known, limits: Sequence[Limit]) -> str:
    """The best reading of the candidates for each limit, in words."""
    parts = []
    for limit in limits:
        best = min((r[limit.metric.name] for r in readings.values()), key=limit.excess)
        parts.append(f"the best {limit.metric.name} is {best.text()} where {limit.text()} was asked for")
    return "; ".join(parts)


def expected(trials: int, objectives: int) -> int:
    """The expected number of finalists: the trials to the power (d-1)/d for d objectives, a rule of thumb.

    A front of d objectives has d-1 dimensions in a space of d; sampled as densely as the space, it has that many points.
    """
    return max(1, min(MAX_FINALISTS, round(math.exp(math.log(trials) * (1 - 1 / objectives)))))
