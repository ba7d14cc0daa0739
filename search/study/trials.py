"""What a trial of a study holds: choices, readings, violations; and whether it holds what it should."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from wb.core.errors import BadArtefact, WbError
from wb.core.metrics import Limit, Metric
from wb.core.readings import Reading
from wb.core.space import Choices, Genes, Option, Space, canonical, check_choices

WORKER = "worker"  # user attribute: the process that evaluates it
REPEAT = "repeat_of"  # user attribute: the trial that evaluated the same network before


def violations(trial: FrozenTrial) -> Sequence[float]:
    """How far a trial is over each budget; what Optuna calls constraints."""
    return [float(value) for value in trial.user_attrs.get("violations", ())]


def readings_of(trial: FrozenTrial) -> dict[str, Reading]:
    """All readings of an evaluated trial by metric name.

    Raises:
        BadArtefact: they are damaged.
    """
    try:
        return {name: Reading.model_validate(value) for name, value in trial.user_attrs["readings"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise BadArtefact(f"trial {trial.number} of the study has no readable readings; start a new run") from error


def evaluated(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a true evaluation of their own, in order; repeats of an earlier one are left out."""
    return own(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def own(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of `trials` that `evaluated` gives."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and REPEAT not in trial.user_attrs]


def at_once(trials: Sequence[FrozenTrial]) -> int:
    """How many of the trials were under way at the same time, at most."""
    begun = [(trial.datetime_start, 1) for trial in trials if trial.datetime_start and trial.datetime_complete]
    ended = [(trial.datetime_complete, -1) for trial in trials if trial.datetime_start and trial.datetime_complete]
    moments = sorted((moment, step) for moment, step in (*begun, *ended) if moment is not None)
    return max(1, *accumulate(step for _, step in moments)) if moments else 1


def choices_of(space: Genes, trial: FrozenTrial) -> dict[str, Option]:
    """What a trial chose, with inactive genes at their first option."""
    return canonical(space, cast(Choices, trial.params))


def network_key(space: Space, choices: Choices) -> str:
    """What trials are compared by: the network without switched-off last blocks."""
    return space.decode(choices).trimmed().key


def check(trial: FrozenTrial, metrics: Sequence[Metric], limits: Sequence[Limit]) -> None:
    """Raises `BadArtefact` unless an evaluated trial holds what this version writes, in the types that it has there."""
    wrong = _wrong(trial, metrics, limits)
    if wrong:
        raise BadArtefact(
            f"trial {trial.number} of the study is damaged ({wrong}); restore the study from a copy, or start a new run"
        )


def check_for(space: Space, trial: FrozenTrial) -> None:
    """Raises `BadArtefact` unless what a trial chose, or was told to choose, is in the space."""
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
    """What is wrong with the first thing that is."""
    values, attributes = trial.values or [], trial.user_attrs
    if len(values) != len(metrics) or not all(_finite(value) for value in values):
        return (
            f"it has the values {values}, expected one finite number for each of {', '.join(m.name for m in metrics)}"
        )
    unnamed = [name for name in trial.params if not isinstance(name, str)]  # whatever its types promise
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
