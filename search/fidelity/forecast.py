"""The quality of candidates after longer training, predicted from what they reached at the rungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from wb.core.metrics import Metric
from wb.core.readings import Reading
from wb.search.choice import choose
from wb.search.config import SearchConfig
from wb.search.planning.settle import finalists
from wb.search.study.trials import readings_of

Floats = NDArray[np.float64]
Climbed = Mapping[int, Mapping[int, Reading]]  # epochs of the rung -> number of the trial -> quality


def forecast(trials: Sequence[FrozenTrial], metrics: Sequence[Metric], climbed: Climbed) -> dict[int, Reading]:
    """Number of the trial -> predicted quality, of the candidates that climbed the highest rung."""
    quality = next(metric.name for metric in metrics if metric.quality)
    inherited = {trial.number: readings_of(trial) for trial in trials}
    rungs = [climbed[epochs] for epochs in sorted(climbed)]
    numbers = [number for number in rungs[-1] if all(number in rung for rung in (inherited, *rungs))]
    work = np.array([inherited[number]["macs"].value for number in numbers])
    known = [np.array([inherited[number][quality].value for number in numbers])]
    known += [np.array([rung[number].value for number in numbers]) for rung in rungs]
    found = predicted(work, known)
    return {
        number: Reading(value=float(value), unit=rungs[-1][number].unit, how="predicted", n=rungs[-1][number].n)
        for number, value in zip(numbers, found, strict=True)
    }


def predicted(work: Floats, readings: Sequence[Floats]) -> Floats:
    """Quality after training in full, for networks of so many multiply-accumulates.

    `readings` are their qualities at each fidelity, the inherited first.
    """
    return readings[-1]


def chosen(config: SearchConfig, trials: Sequence[FrozenTrial], climbed: Climbed) -> dict[int, FrozenTrial]:
    """The finalists by trial number, once all rungs are climbed.

    Raises:
        BudgetMissed: no evaluated candidate is within the budget.
    """
    known = {rung.epochs: climbed[rung.epochs] for rung in config.halving if climbed.get(rung.epochs)}
    qualities = forecast(trials, config.metrics, known) if known else None
    return choose(trials, config.metrics, config.limits, finalists(config), qualities)


def rung_counts(config: SearchConfig, trials: int, climbed: Climbed) -> tuple[int, int]:
    """How many trainings at the rungs are done, and how many there are; fewer where few candidates are within the budget."""
    done = sum(len(climbed.get(rung.epochs, {})) for rung in config.halving)
    return done, sum(min(rung.candidates, trials) for rung in config.halving)
