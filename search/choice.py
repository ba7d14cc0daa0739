"""The choice of finalists among the evaluated candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import moocore
import numpy as np
from optuna.trial import FrozenTrial

from wb.core.errors import BudgetMissed
from wb.core.metrics import Limit, Metric
from wb.core.readings import Reading
from wb.core.requirements import Requirement
from wb.search.answer.choice import finalists
from wb.search.front import front
from wb.search.study.trials import readings_of

MAX_FINALISTS = 24  # with three or four objectives nearly everything is non-dominated


def choose(
    trials: Sequence[FrozenTrial],
    metrics: Sequence[Metric],
    limits: Sequence[Limit],
    requirements: Sequence[Requirement] = (),
) -> dict[int, FrozenTrial]:
    """The front of the evaluated candidates, by trial number; of a large front, the candidates that add most hypervolume.

    With requirements it is the front of those that meet them, and some that nearly do (`wb.search.answer.choice.finalists`).

    Raises:
        BudgetMissed: no evaluated candidate is within the budget.
    """
    readings = {trial.number: readings_of(trial) for trial in trials}
    quality = [metric.name for metric in metrics if metric.quality]  # by value: intervals count after fine-tuning
    numbers = (
        finalists(readings, metrics, limits, requirements, quality)
        if requirements
        else front(readings, metrics, limits, exact=quality)
    )
    if not numbers:
        raise BudgetMissed(
            f"none of {len(trials)} evaluated candidates is within the budget; {closest(readings, limits)}. Continue with more "
            "--trials, or allow more"
        )
    if len(numbers) > MAX_FINALISTS:
        values = np.array([[metric.cost(readings[n][metric.name]) for metric in metrics] for n in numbers])
        span = np.ptp(values, axis=0)
        unit = (values - values.min(axis=0)) / np.where(span > 0, span, 1)
        worth = moocore.hv_contributions(unit, ref=np.full(len(metrics), 1.1))
        numbers = [numbers[i] for i in np.argsort(-worth, kind="stable")[:MAX_FINALISTS]]
    return {trial.number: trial for trial in trials if trial.number in set(numbers)}


def closest(readings: Mapping[int, Mapping[str, Reading]], limits: Sequence[Limit]) -> str:
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
