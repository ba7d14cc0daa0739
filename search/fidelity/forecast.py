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

REACH = 1.5  # of the fall from the last rung but one to the last, in logarithms of the error
LEAST_ERROR = 1e-3  # below which errors are not told apart
FEWEST = 6  # networks that a line is drawn through
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
    """Quality after training in full, for networks of so many multiply-accumulates; all shape (networks,).

    `readings` are their qualities at each fidelity, the inherited first. Errors fall as they fell from the last fidelity but
    one to the last, by as much again times `REACH` in logarithms. How much they fell is noisy for one network, so that a line
    through the logarithm of work says it for all. The line only ever favours larger networks, which need more steps, and it is
    as steep as it is sure to be: its slope shrinks by its variance.

    Source: James and Stein, "Estimation with quadratic loss", 1961 (the positive part of the shrinkage).
    Limits: with fewer than `FEWEST` networks the last readings are the prediction.
    """
    before, last = (np.log(np.clip(1 - quality, LEAST_ERROR, None)) for quality in readings[-2:])
    if len(work) < FEWEST or np.ptp(work) == 0:
        return readings[-1]
    size = np.log(work) - np.log(work).mean()
    gain = last - before
    slope = float(size @ gain / (size @ size))
    rest = gain - gain.mean() - slope * size
    variance = float(rest @ rest / (len(work) - 2) / (size @ size))
    slope = min(0.0, slope) * max(0.0, 1 - variance / slope**2) if slope else 0.0
    return np.asarray(1 - np.exp(last + REACH * (min(0.0, float(gain.mean())) + slope * size)))


def chosen(config: SearchConfig, trials: Sequence[FrozenTrial], climbed: Climbed) -> dict[int, FrozenTrial]:
    """The finalists by trial number, once all rungs are climbed.

    Raises:
        BudgetMissed: no evaluated candidate is within the budget.
    """
    known = {rung.epochs: climbed[rung.epochs] for rung in config.halving if climbed.get(rung.epochs)}
    qualities = forecast(trials, config.metrics, known) if known else None
    return choose(trials, config.metrics, config.limits, finalists(config), qualities, config.requirements)


def rung_counts(config: SearchConfig, trials: int, climbed: Climbed) -> tuple[int, int]:
    """How many trainings at the rungs are done, and how many there are; fewer where few candidates are within the budget."""
    done = sum(len(climbed.get(rung.epochs, {})) for rung in config.halving)
    return done, sum(min(rung.candidates, trials) for rung in config.halving)
