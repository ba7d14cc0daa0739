"""The content of a trial: choices, readings and violations; and checks that a trial holds what it should."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from wb.core.errors import BadArtefact, WbError
from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.space import Choices, Genes, Option, Space, canonical, check_choices

WORKER = "worker"  # user attribute: the process that evaluates it
OPEN = (TrialState.RUNNING, TrialState.WAITING)
REPEAT = "repeat_of"  # user attribute: the trial that evaluated the same network before


def violations(trial: FrozenTrial) -> Sequence[float]:
    """The excess of a trial over each budget, at most 0 where it is kept: Optuna's constraints."""
    return [float(value) for value in trial.user_attrs.get("violations", ())]


def readings_of(trial: FrozenTrial) -> dict[str, Reading]:
    """Metric name -> reading of an evaluated trial.

    Raises:
        BadArtefact: the readings are damaged.
    """
    try:
        return {name: Reading.model_validate(value) for name, value in trial.user_attrs["readings"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise BadArtefact(f"trial {trial.number} of the study has no readable readings; start a new run") from error


def values_of(trial: FrozenTrial) -> dict[str, float]:
    """Metric name -> value of an evaluated trial. Raises as `readings_of` does."""
    return {name: reading.value for name, reading in readings_of(trial).items()}


def evaluated(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of the study that were evaluated themselves, in order; repeats of an earlier network are left out."""
    return own(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def own(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The complete trials among `trials` that are not repeats of an earlier one."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and REPEAT not in trial.user_attrs]


def at_once(trials: Sequence[FrozenTrial]) -> int:
    """The largest number of trials that were running at the same time, at least 1."""
    begun = [(trial.datetime_start, 1) for trial in trials if trial.datetime_start and trial.datetime_complete]
    ended = [(trial.datetime_complete, -1) for trial in trials if trial.datetime_start and trial.datetime_complete]
    moments = sorted((moment, step) for moment, step in (*begun, *ended) if moment is not None)
    return max(1, *accumulate(step for _, step in moments)) if moments else 1


def busy(trials: Sequence[FrozenTrial]) -> float:
    """The seconds during which at least one of the trials was being evaluated."""
    spans = sorted((t.datetime_start, t.datetime_complete) for t in trials if t.datetime_start and t.datetime_complete)
    total, until = 0.0, datetime.min
    for start, end in spans:
        total += max(0.0, (end - max(start, until)).total_seconds())
        until = max(until, end)
    return total


def choices_of(space: Genes, trial: FrozenTrial) -> dict[str, Option]:
    """The choices of a trial, with inactive genes set to their first option."""
    return canonical(space, cast(Choices, trial.params))


def network_key(space: Space, choices: Choices) -> str:
    """The key by which trials are compared: that of the network without switched-off last blocks."""
    return space.decode(choices).trimmed().key


def check(trial: FrozenTrial, metrics: Sequence[Metric], limits: Sequence[Limit]) -> None:
    """Raises `BadArtefact` unless an evaluated trial holds everything that this version writes, with the right types."""
    wrong = _wrong(trial, metrics, limits)
    if wrong:
        raise BadArtefact(
            f"trial {trial.number} of the study is damaged ({wrong}); restore the study from a copy, or start a new run"
        )


def check_for(space: Space, trial: FrozenTrial) -> None:
    """Raises `BadArtefact` unless the choices of a trial, or those it was enqueued with, are in the space."""
    fixed = trial.system_attrs.get("fixed_params", {})
    finished = trial.state == TrialState.COMPLETE
    try:
        if finished or trial.params.keys() >= space.genes.keys():
            network_key(space, choices_of(space, trial))
        if fixed and not finished:
            check_choices(space.genes, fixed, space.name)
    except (WbError, KeyError, ValueError, TypeError, AttributeError) as error:
        said = f"no {error} is chosen" if isinstance(error, KeyError) else str(error)
        raise BadArtefact(
            f"trial {trial.number} of the study is none of this run's space ({said}); restore the study from a copy, or start a "
            "new run"
        ) from error


def _wrong(trial: FrozenTrial, metrics: Sequence[Metric], limits: Sequence[Limit]) -> str | None:
    """Describes the first fault of the trial; None if there is none."""
    values, attributes = trial.values or [], trial.user_attrs
    if len(values) != len(metrics) or not all(_finite(value) for value in values):
        return (
            f"it has the values {values}, expected one finite number for each of {', '.join(m.name for m in metrics)}"
        )
    unnamed = [name for name in trial.params if not isinstance(name, str)]  # possible in a damaged database
    if unnamed:
        return f"it chose something that is called {unnamed[0]!r}"
    over = attributes.get("violations", [])
    if not isinstance(over, list) or len(over) != len(limits) or not all(_finite(value) for value in over):
        return f"its violations are {over!r}, expected {len(limits)} numbers"
    seconds = attributes.get("seconds", {})
    if not isinstance(seconds, Mapping) or not all(_finite(value) for value in seconds.values()):
        return f"its seconds are {seconds!r}, expected a number for each phase"
    readings = readings_of(trial)
    for metric in metrics:
        if metric.name not in readings:
            return f"it has no reading of {metric.name}, an objective of the run"
    for name, reading in readings.items():
        if not all(math.isfinite(value) for value in (reading.value, *(reading.interval or ()))):
            return f"its reading of {name} is not finite"
    return None


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
