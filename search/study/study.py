"""The Optuna study of a run: creating it, loading it, and checking it before anything relies on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.trial import FrozenTrial, TrialState

from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.metrics import Limit, Metric
from wb.core.space import Space
from wb.search.study.storage import file_of, named, open_storage, open_to_read, public
from wb.search.study.trials import check, check_for, evaluated, own


def create_study(url: str, name: str, metrics: Sequence[Metric]) -> optuna.Study:
    """Creates the study `name` at `url`.

    Raises:
        BadOption: the kind of storage is unknown, its driver is not installed, or a study of that name exists.
        BadArtefact: the database is damaged.
        StorageFailed: the database cannot be reached.
    """
    with named(url):
        try:
            study = optuna.create_study(
                storage=open_storage(url, create=True),
                study_name=name,
                directions=[metric.direction for metric in metrics],
            )
            study.set_metric_names([metric.name for metric in metrics])
        except optuna.exceptions.DuplicatedStudyError as error:
            raise BadOption(f"{public(url)} has a study {name!r} already; choose another storage or --out") from error
    return study


def load_study(url: str, name: str) -> optuna.Study:
    """Loads the study `name` at `url`.

    Raises:
        BadArtefact: the study does not exist or is damaged.
        BadOption: the driver of the database is not installed.
        StorageFailed: the database cannot be reached.
    """
    with _found(url, name):
        return optuna.load_study(storage=open_storage(url), study_name=name)


def read_evaluated(url: str, name: str, metrics: Sequence[Metric], limits: Sequence[Limit]) -> list[FrozenTrial]:
    """The evaluated trials of the study, checked. Never writes to the database. Raises as `load_study` does."""
    with _found(url, name), open_to_read(url) as storage:
        found = evaluated(optuna.load_study(storage=storage, study_name=name))
    for trial in found:
        check(trial, metrics, limits)
    return found


def read_running(url: str, name: str) -> list[FrozenTrial]:
    """The trials of the study that are being evaluated. Never writes to the database. Raises as `load_study` does."""
    with _found(url, name), open_to_read(url) as storage:
        study = optuna.load_study(storage=storage, study_name=name)
        return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def check_study(
    url: str, study: optuna.Study, metrics: Sequence[Metric], limits: Sequence[Limit], space: Space
) -> None:
    """Checks every trial of the study.

    Raises:
        BadArtefact: a value is not what a search writes, or a choice is not in the space.
        StorageFailed: the database cannot be reached.
    """
    with named(url):
        directions = [direction.name.lower() for direction in study.directions]
        trials = study.get_trials(deepcopy=False)
    wanted = [metric.direction for metric in metrics]
    if directions != wanted:
        raise BadArtefact(
            f"the study at {public(url)} is damaged (its directions are {directions}, expected {wanted}); restore it from a copy "
            "or start a new run"
        )
    for trial in own(trials):
        check(trial, metrics, limits)
    for trial in trials:
        check_for(space, trial)


@contextmanager
def _found(url: str, name: str) -> Iterator[None]:
    file = file_of(url)
    if file is not None and not file.is_file():  # SQLite would create an empty file
        raise BadArtefact(f"there is no study at {public(url)}; restore the file, or start a new run")
    with named(url):
        try:
            yield
        except KeyError as error:
            if "Record does not exist" not in str(error):
                raise
            raise BadArtefact(f"there is no study {name!r} at {public(url)}; expected the storage of a run") from error
