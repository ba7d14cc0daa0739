"""Run folders as `wb search` leaves them, made in a moment: the networks are real, their readings made up."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial
from sqlalchemy import event

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput
from wb.core.space import random_choices
from wb.core.system.provenance import machine, versions
from wb.search.beginning.config import SearchConfig
from wb.search.ending.front import front
from wb.search.results.point import FrontPoint
from wb.search.run import DataRecord, Run, RunRecord
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.spaces.operators import width_of

DIGITS = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.3,))
FIRST_BATCH = 16
WORTH = {"pool": 1.0, "lmu": 1.6, "cosformer": 2.0, "sla": 2.2, "softmax": 2.4}
Fabricate = Callable[..., Run]


@pytest.fixture(scope="module", autouse=True)
def _brief(brief: None) -> None:
    """What asks how good that is which is found changes it back."""


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives a folder with a run of these options, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Path] = {}

    def original(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = fabricate_run(folder / str(len(made)), **options).folder
        return made[key]

    return original


@pytest.fixture
def fabricate(originals: Callable[..., Path], tmp_path: Path) -> Fabricate:
    """Makes a run folder: `fabricate(objectives="acc,latency", budget=("latency=0.2ms",), finished=False, …)`."""

    def make(**options: Any) -> Run:
        return Run(shutil.copytree(originals(**options), tmp_path / "run"))

    return make


def fabricate_run(
    folder: Path,
    *,
    trials: int = 24,
    finished: bool = True,
    guided: bool = True,
    classes: Sequence[str] = tuple("0123456789"),
    **config: Any,
) -> Run:
    """A run of `trials` evaluations; an unfinished one has no front, no predictors' quality and no table."""
    run = Run(folder)
    folder.mkdir(parents=True)
    settings = SearchConfig.model_validate({"trials": 24, **config})
    space = Vit(TINY, DIGITS, len(classes), classes, "tiny")
    evaluated = _fill(run, settings, space, trials, guided)
    record = RunRecord(
        created="2025-03-01T12:00:00+00:00",
        config=settings,
        pace=Reading(value=0.16, unit="ms", how="measured", interval=(0.159, 0.161), n=80),
        study="search",
        data=DataRecord(
            spec=settings.data,
            fingerprint="0123",
            train=1080,
            validation=359,
            test=360,
            image=(1, 8, 8),
            classes=tuple(classes),
        ),
        machine=machine("onnxruntime cpu, 1 thread"),
        versions=versions(),
        seconds={"supernet": 301.5, "search": 88.2},
    )
    if finished:
        points = _front(evaluated, settings, space)
        run.staging.mkdir()
        run.publish(points)
        record = record.model_copy(update=_quality(points, settings))
    run.write(record)
    return run


def readings(architecture: Architecture, rng: random.Random) -> dict[str, Reading]:
    """Larger networks are better and slower, with some noise."""
    stage = architecture.stages[0]
    mixers = [WORTH[block.mixer.kind] for block in stage.blocks if block.mixer is not None]
    widths = [width_of(block.ffn) for block in stage.blocks if block.ffn is not None]
    acc = 0.985 - 0.5 / (1 + 0.05 * (sum(mixers) + len(widths)) * stage.embed) + rng.gauss(0, 0.01)
    wide = sum(widths) + 12 * sum(mixers)
    macs = 16 * stage.embed * (stage.embed + 2 * wide)
    latency = (0.012 + macs / 9e6 + 0.004 * len(stage.blocks)) * rng.uniform(0.9, 1.15)
    spread = 0.02 * latency
    return {
        "size": Reading(value=9000 + macs // 4, unit="B", how="counted"),
        "macs": Reading(value=macs, unit="MAC", how="counted"),
        "params": Reading(value=macs // 16, unit="parameters", how="counted"),
        "latency": Reading(
            value=latency, unit="ms", how="measured", interval=(latency - spread, latency + spread), n=200, device="cpu"
        ),
        "acc": accuracy(acc),
    }


def accuracy(value: float) -> Reading:
    """On 360 examples."""
    value = min(max(value, 0.1), 1.0)
    half = 1.96 * (value * (1 - value) / 360) ** 0.5
    return Reading(value=value, unit="fraction", how="measured", interval=(value - half, min(value + half, 1)), n=360)


def _fill(run: Run, config: SearchConfig, space: Vit, trials: int, guided: bool) -> dict[int, FrozenTrial]:
    storage = optuna.storages.RDBStorage(run.storage(config))

    @event.listens_for(storage.engine, "connect")
    def _fast(connection: Any, _: object) -> None:  # thousands of small writes, for which no disk has to wait
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    storage.engine.dispose()  # connections made before the listener
    study = optuna.create_study(storage=storage, study_name="search", directions=[m.direction for m in config.metrics])
    rng = random.Random(config.seed)
    study.add_trials([_trial(config, space, rng, guided and i >= FIRST_BATCH) for i in range(trials)])
    found = {trial.number: trial for trial in study.get_trials()}
    storage.remove_session()
    storage.engine.dispose()
    return found


def _trial(config: SearchConfig, space: Vit, rng: random.Random, predicted: bool) -> FrozenTrial:
    choices = random_choices(space, rng)
    found = readings(space.decode(choices), rng)
    values = [found[metric.name].value for metric in config.metrics]
    attributes: dict[str, Any] = {
        "readings": {name: reading.model_dump(mode="json") for name, reading in found.items()},
        "violations": [limit.excess(found[limit.metric.name]) for limit in config.limits],
        "seconds": {"extract": 0.01, "export": 0.31, "time": 0.9, "score": 0.12},
    }
    if predicted:
        attributes["predicted"] = [value * rng.uniform(0.9, 1.1) for value in values]
        attributes["predicted_std"] = [0.05 * value for value in values]
    return optuna.trial.create_trial(
        values=values,
        params=dict(choices),
        distributions={name: CategoricalDistribution(options) for name, options in space.genes.items()},
        user_attrs=attributes,
    )


def _front(trials: Mapping[int, FrozenTrial], config: SearchConfig, space: Vit) -> list[FrontPoint]:
    found = {
        number: {name: Reading.model_validate(value) for name, value in trial.user_attrs["readings"].items()}
        for number, trial in trials.items()
    }
    points = []
    for number in front(found, config.metrics, config.limits):
        choices = dict(trials[number].params)
        points.append(
            FrontPoint(
                id=number,
                values=found[number],
                test=accuracy(found[number]["acc"].value - 0.012),
                choices=choices,
                architecture=space.decode(choices).model_dump(mode="json"),
                model=f"models/{number}.safetensors",
                onnx=f"models/{number}.onnx",
            )
        )
    return sorted(points, key=lambda point: point.values["latency"].value)


def _quality(points: Sequence[FrontPoint], config: SearchConfig) -> dict[str, Any]:
    quality = {"kendall": 0.83, "rmse": 0.021, "relative_error": 0.034, "samples": 60, "model": "ensemble of 20 trees"}
    rows = [
        {
            "id": point.id,
            "measured_ms": point.values["latency"].value,
            "estimated_ms": point.values["latency"].value * (0.9 + 0.03 * (i % 8)),
        }
        for i, point in enumerate(points)
    ]
    return {
        "seconds": {"supernet": 301.5, "search": 88.2, "finalists": 24.9},
        "predictors": {
            m.name: quality | {"macs_only": {"kendall": 0.7, "relative_error": 0.1}} for m in config.metrics
        },
        "table": {"median_relative_error": 0.051, "max_relative_error": 0.1, "networks": rows},
    }
