"""The Optuna study of a run: where it is kept, who proposes, and what a trial records."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadOption, StorageFailed, WbError, reason
from wb.core.metrics import Limit, Metric
from wb.core.readings import Reading
from wb.core.space import Choices, Genes, Option, Space, canonical
from wb.export.graph import ExportDiffers
from wb.search.config import SamplerName
from wb.search.evaluate import Evaluation
from wb.search.guided import GuidedSampler

HEARTBEAT_S = 30  # a worker that was killed is noticed after three of them
ATTEMPTS = 20  # proposals per unique evaluation; Optuna's own samplers repeat themselves


def create_study(url: str, name: str, metrics: Sequence[Metric]) -> optuna.Study:
    """A new study `name` at `url`.

    Raises:
        BadOption: no such kind of storage, its driver is not installed, or there is a study of that name.
        BadArtefact: the database is damaged.
        StorageFailed: it cannot be reached.
    """
    try:
        study = optuna.create_study(
            storage=_storage(url), study_name=name, directions=[metric.direction for metric in metrics]
        )
        study.set_metric_names([metric.name for metric in metrics])
    except optuna.exceptions.DuplicatedStudyError as error:
        raise BadOption(f"{public(url)} has a study {name!r} already; choose another storage or --out") from error
    except (ArgumentError, ImportError, ValueError) as error:
        raise BadOption(
            f"--storage {public(url)} cannot be used ({reason(error)}); give an Optuna URL, for example sqlite:///study.db, or "
            "postgresql+psycopg2://… with `pip install 'wb[postgres]'`"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        raise _unusable(url, error) from error
    return study


def public(url: str) -> str:
    """`url` without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _unusable(url: str, error: Exception) -> WbError:
    url = public(url)
    if "file is not a database" in str(error) or "malformed" in str(error):
        return BadArtefact(
            f"the study at {url} is damaged ({reason(error)}); restore it from a copy or start a new run"
        )
    return StorageFailed(f"the storage {url} cannot be used ({reason(error)}); check the URL and that it is reachable")


def _storage(url: str) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats and metric names have been "experimental" in Optuna for years; the user cannot do anything about it.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sqlite = url.startswith("sqlite")
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else {},
        heartbeat_interval=HEARTBEAT_S,
        grace_period=3 * HEARTBEAT_S,
    )
    if sqlite:

        @event.listens_for(storage.engine, "connect")
        def _fast(connection: Any, _: object) -> None:
            # Five times fewer waits for the disk; a killed process loses nothing, a power cut the last trial at most.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()  # connections made before the listener
    return storage


def settle(url: str) -> None:
    """Moves what SQLite keeps in its write-ahead log into the file itself, so that the file can be copied alone."""
    if url.startswith("sqlite"):
        with suppress(sqlite3.Error), closing(sqlite3.connect(make_url(url).database or "")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def make_sampler(name: SamplerName, space: Space, limits: Sequence[Limit], seed: int, done: int = 0) -> BaseSampler:
    """The sampler of that name; all but `random` rank candidates over a budget behind all others.

    `done` is how many trials there are already: a resumed run must not draw again what it drew then.
    """
    constraints = violations if limits else None
    seed = (seed + 7919 * done) % 2**32
    match name:
        case "guided":
            return GuidedSampler(space, seed=seed, constraints_func=constraints)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=25, constraints_func=constraints)
        case "tpe":
            return TPESampler(seed=seed, multivariate=True, constraints_func=constraints)
        case "random":
            return RandomSampler(seed=seed)


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
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if "repeat_of" not in trial.user_attrs]


def optimize(
    study: optuna.Study,
    space: Space,
    metrics: Sequence[Metric],
    limits: Sequence[Limit],
    evaluate: Callable[[Architecture], Evaluation],
    trials: int,
    report: Callable[[int, FrozenTrial], None],
) -> int:
    """Continues the study until it has `trials` evaluated candidates, the space is exhausted, or proposals only repeat.

    A proposal whose network was evaluated before (other samplers than ours make such, and a last block that is switched
    off is none) gets the values of that evaluation. Gives the number of evaluated candidates.
    """
    optuna.storages.fail_stale_trials(study)  # of workers that were killed
    known = {network_key(space, choices_of(space, trial)): trial for trial in evaluated(study)}

    def objective(trial: optuna.Trial) -> list[float]:
        proposed = {name: trial.suggest_categorical(name, list(options)) for name, options in space.genes.items()}
        choices = canonical(space, cast(Choices, proposed))
        key = network_key(space, choices)
        if key in known:
            trial.set_user_attr("repeat_of", known[key].number)
            for name in ("readings", "violations"):
                trial.set_user_attr(name, known[key].user_attrs[name])
            return list(known[key].values)
        result = evaluate(space.decode(choices))
        trial.set_user_attr("readings", {name: r.model_dump(mode="json") for name, r in result.readings.items()})
        trial.set_user_attr("violations", [limit.excess(result.readings[limit.metric.name]) for limit in limits])
        trial.set_user_attr("seconds", result.seconds)
        return [result.readings[metric.name].value for metric in metrics]

    def finished(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state == TrialState.COMPLETE and "repeat_of" not in trial.user_attrs:
            known[network_key(space, choices_of(space, trial))] = trial
            report(len(known), trial)
        if len(known) >= trials:
            study.stop()

    if len(known) >= trials:
        return len(known)
    attempts = (trials - len(known)) * ATTEMPTS
    try:
        study.optimize(objective, n_trials=attempts, callbacks=[finished], catch=(ExportDiffers,))
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageFailed(
            f"the study could not be written ({reason(error)}); free some space or check the storage, then "
            "continue with --resume: finished evaluations are kept"
        ) from error
    return len(known)


def load_study(url: str, name: str) -> optuna.Study:
    """The study `name` at `url`, which exists.

    Raises:
        BadArtefact: there is none, or it is damaged.
        BadOption: the driver of the database is not installed.
        StorageFailed: the database cannot be reached.
    """
    file = make_url(url).database if url.startswith("sqlite") else None
    if file is not None and not Path(file).is_file():  # SQLite would make an empty one
        raise BadArtefact(f"there is no study at {public(url)}; restore the file, or start a new run")
    try:
        return optuna.load_study(storage=_storage(url), study_name=name)
    except KeyError as error:
        raise BadArtefact(f"there is no study {name!r} at {public(url)}; expected the storage of a run") from error
    except (ArgumentError, ImportError, ValueError) as error:
        raise BadOption(
            f"the storage {public(url)} cannot be used ({reason(error)}); give the run's own --storage"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        raise _unusable(url, error) from error


def choices_of(space: Genes, trial: FrozenTrial) -> dict[str, Option]:
    """What a trial chose, with inactive genes at their first option."""
    return canonical(space, cast(Choices, trial.params))


def network_key(space: Space, choices: Choices) -> str:
    """What trials are compared by: the network without switched-off last blocks."""
    return space.decode(choices).trimmed().key
