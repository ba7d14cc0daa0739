"""The quality of candidates after longer training, predicted from what they reached at the rungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from wb.core.measures.metrics import Metric
from wb.core.measures.readings import Reading
from wb.search.beginning.config import SearchConfig
from wb.search.fidelity.choice import choose
from wb.search.planning.settle import finalists
from wb.search.study.trials import readings_of

REACH = 1.5  # of the fall from the last rung but one to the last, in logarithms of the error
# In logarithms, how much further errors fall by training in full where work is e times as large, and how surely.
SLOPE, SPREAD = -0.1, 0.05
DOUBT = 0.1  # standard deviation of that as the fall between two rungs tells it, beside the noise of the rungs
LEAST_ERROR = 1e-3  # below which errors are not told apart
FEWEST = 6  # networks that a line is drawn through
Floats = NDArray[np.float64]
Climbed = Mapping[int, Mapping[int, Reading]]  # epochs of the rung -> number of the trial -> quality


def forecast(trials: Sequence[FrozenTrial], metrics: Sequence[Metric], climbed: Climbed) -> dict[int, Reading]:
    """Number of the trial -> predicted quality, of the candidates that climbed the highest rung; of all, if none did."""
    metric = next(metric for metric in metrics if metric.quality)
    quality = metric.name
    readings = {trial.number: readings_of(trial) for trial in trials}
    inherited = {number: own[quality] for number, own in readings.items()}
    rungs = [inherited, *(climbed[epochs] for epochs in sorted(climbed))]
    numbers = [number for number in rungs[-1] if all(number in rung for rung in rungs)]
    work = np.array([readings[number]["macs"].value for number in numbers])
    values = [np.array([rung[number].value for number in numbers]) for rung in rungs]
    nats = metric.direction == "minimize"  # of a perplexity, which fall as the errors of classifiers do
    found = predicted(work, [1 - np.log(own) for own in values] if nats else values)
    units = {number: rungs[-1][number] for number in numbers}
    return {
        number: Reading(value=float(value), unit=units[number].unit, how="predicted", n=units[number].n)
        for number, value in zip(numbers, np.exp(1 - found) if nats else found, strict=True)
    }


def predicted(work: Floats, readings: Sequence[Floats]) -> Floats:
    """Quality after training in full, for networks of so many multiply-accumulates; all shape (networks,).

    `readings` are their qualities at each fidelity, the inherited first. In logarithms, errors fall on as they fell from the
    last fidelity but one to the last, times `REACH`; those of larger networks, which need more steps, fall further, by `SLOPE`
    for each e-fold of work. A line through what was gained between the two corrects that, as far as it is sure: both are
    averaged by their variances. It never favours smaller networks.

    Source: `SLOPE` from fronts on photographs (docs/results.md); Kaplan et al., "Scaling Laws for Neural Language Models", 2020,
    for the power law.
    Limits: from one fidelity, or of fewer than `FEWEST` networks, nothing is learned of what is gained.
    """
    errors = [np.log(np.clip(1 - quality, LEAST_ERROR, None)) for quality in readings[-2:]]
    last = errors[-1]
    size, gain = np.log(work) - np.log(work).mean(), last - errors[0]
    slope = SLOPE
    if len(errors) > 1 and len(work) >= FEWEST and np.ptp(work) > 0:
        line = float(size @ gain / (size @ size))
        rest = gain - gain.mean() - line * size
        noise = float(rest @ rest / (len(work) - 2) / (size @ size))
        told = REACH**2 * noise + DOUBT**2
        slope = (SLOPE / SPREAD**2 + REACH * line / told) / (1 / SPREAD**2 + 1 / told)
    return np.asarray(1 - np.exp(last + REACH * min(0.0, float(gain.mean())) + min(0.0, slope) * size))


def chosen(config: SearchConfig, trials: Sequence[FrozenTrial], climbed: Climbed) -> dict[int, FrozenTrial]:
    """The finalists by trial number, once all rungs are climbed.

    Without rungs what they inherited decides, but not in a search that was given a time: in a short one the supernet has few
    epochs, which say little, and the forecast also knows that larger networks gain more.

    Raises:
        BudgetMissed: no evaluated candidate is within the budget.
    """
    known = {rung.epochs: climbed[rung.epochs] for rung in config.halving if climbed.get(rung.epochs)}
    brief = config.time is not None and config.finetune > 0 and any(metric.quality for metric in config.metrics)
    qualities = forecast(trials, config.metrics, known) if known or brief else None
    return choose(trials, config.metrics, config.limits, finalists(config), qualities, config.requirements)


def rung_counts(config: SearchConfig, trials: int, climbed: Climbed) -> tuple[int, int]:
    """How many trainings at the rungs are done, and how many there are; fewer where few candidates are within the budget."""
    done = sum(len(climbed.get(rung.epochs, {})) for rung in config.halving)
    return done, sum(min(rung.candidates, trials) for rung in config.halving)
