"""The contents of a run's report: everything in the run folder, read and checked, whether the run is finished or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact
from wb.core.measures.metrics import Metric
from wb.core.measures.readings import Reading, Readings
from wb.search.crew.pace import Pace, pace_of
from wb.search.ending.front import front
from wb.search.page.advice import knee
from wb.search.page.traces import Candidate, cost
from wb.search.results.answers import Answers, read_answers
from wb.search.results.baselines import Baseline, read_baselines
from wb.search.results.curves import Curve, read_curves
from wb.search.results.point import FrontPoint
from wb.search.run import Run, RunRecord
from wb.search.sampler.hypervolume import hypervolume_curve
from wb.search.study.study import read_evaluated
from wb.search.study.trials import readings_of, violations
from wb.spaces.columnar.precision import FFN, is_precision
from wb.spaces.operators import has_weights


@dataclass(frozen=True)
class Contents:
    """The contents of a run folder.

    `candidates` are all evaluations in order. `front` is that of `front.json` or, before it exists, the front so far.
    `points` are the points of `front.json`, None before it exists. `architectures` are theirs, by the points' ids. `seconds`
    is the mean time of an evaluation by phase, `pace` that of all workers together, None for too few evaluations. `slots` is the
    largest number of blocks in the space. `answers` are None, and `curves` and `baselines` empty, in runs of older versions.
    """

    run: Run
    record: RunRecord
    candidates: Sequence[Candidate]
    front: Sequence[Candidate]
    points: Sequence[FrontPoint] | None
    architectures: Mapping[int, Architecture]
    seconds: Mapping[str, float]
    pace: Pace | None
    slots: int
    answers: Answers | None
    curves: Mapping[str, Curve]
    baselines: Sequence[Baseline]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The objectives."""
        return self.record.config.metrics

    @property
    def best(self) -> FrontPoint | None:
        """The recommended network: the knee; None before there is a front, and where it is not one of quality against a cost."""
        costs = [metric for metric in self.metrics if not metric.quality]
        if not self.points or not costs or len(costs) == len(self.metrics):
            return None
        return knee(self.points, costs[-1])


def read(run: Run) -> Contents:
    """Reads the run folder and the study.

    Raises:
        BadArtefact: `run.json`, `front.json`, the study or another file of the run is damaged.
        BadOption: the driver of the study's database is not installed.
        StorageFailed: the study cannot be reached.
    """
    record = run.read()
    trials = read_trials(run, record)
    candidates = [_candidate(trial, record.config.metrics) for trial in trials]
    points = read_front(run, record)
    return Contents(
        run=run,
        record=record,
        candidates=candidates,
        front=_front_so_far(candidates, record.config.metrics) if points is None else [_finalist(p) for p in points],
        points=points,
        architectures={point.id: Architecture.model_validate(point.architecture) for point in points or ()},
        seconds=_mean_seconds(trials),
        pace=pace_of(trials),
        slots=max((i + 1 for trial in trials for i in _mixers(trial.params)), default=0),
        answers=None if points is None else read_answers(run.answers_path),
        curves=read_curves(run.curves_path),
        baselines=read_baselines(run.baselines_path),
    )


def read_trials(run: Run, record: RunRecord) -> list[FrozenTrial]:
    """The evaluated trials of the run's study.

    Raises:
        BadArtefact: the study is missing or damaged.
        BadOption: the driver of its database is not installed.
        StorageFailed: its database cannot be reached.
    """
    config = record.config
    return read_evaluated(run.storage(config), record.study, config.metrics, config.limits)


def read_front(run: Run, record: RunRecord) -> list[FrontPoint] | None:
    """The points of `front.json`; None if the file does not exist yet.

    Raises:
        BadArtefact: the file is damaged, or lacks an objective of the run.
    """
    points = run.read_front() if run.front_path.exists() else None
    for point in points or ():
        _require(record.config.metrics, point.values, f"network {point.id} in {run.front_path}")
    return points


def summarize(choices: Mapping[str, object]) -> str:
    """A candidate in one line: its global choices, how many weight groups have which precision, and the mixers of its blocks."""
    depth = choices.get("depth")
    mixers = [name for i, name in sorted(_mixers(choices).items()) if not isinstance(depth, int) or i < depth]
    whole = [f"{name} {value}" for name, value in choices.items() if "." not in name]
    kept = [str(value) for name, value in choices.items() if "." in name and _kept(name, choices)]
    low = "".join(f", {kept.count(value)} of {len(kept)} groups of blocks {value}" for value in sorted(set(kept)))
    return ", ".join(whole) + low + (f": {' · '.join(mixers)}" if mixers else "")


def dominated(metrics: Sequence[Metric], candidates: Sequence[Candidate]) -> tuple[list[float], list[Reading]]:
    """The normalised hypervolume after each evaluation, and its reference point: the worst reading of each objective.

    Objectives are scaled such that the box from the reference point to the best values has volume 1. Candidates over a
    budget are ignored, also for the reference point.
    """
    within = [c for c in candidates if not c.over]
    if not within:
        return [0.0] * len(candidates), []
    costs = np.array([[cost(c, metric) for metric in metrics] for c in within])
    span = np.ptp(costs, axis=0)
    unit = np.ones((len(candidates), len(metrics)))  # the reference point, which dominates nothing
    unit[[not c.over for c in candidates]] = (costs - costs.min(axis=0)) / np.where(span > 0, span, 1)
    curve = hypervolume_curve(unit, np.ones(len(metrics)))
    return curve.tolist(), [within[row].readings[m.name] for m, row in zip(metrics, costs.argmax(axis=0), strict=True)]


def _candidate(trial: FrozenTrial, metrics: Sequence[Metric]) -> Candidate:
    return Candidate(
        number=trial.number,
        readings=readings_of(trial),
        summary=summarize(trial.params),
        over=any(excess > 0 for excess in violations(trial)),
        predicted=_floats(trial.user_attrs.get("predicted"), len(metrics)),
        deviation=_floats(trial.user_attrs.get("predicted_std"), len(metrics)),
    )


def _finalist(point: FrontPoint) -> Candidate:
    told = summarize(point.choices) + (f"; {point.twin}" if point.twin else "")
    return Candidate(point.id, point.values, told, test=point.test, unsure=point.unsure is not None, place=point.number)


def _front_so_far(candidates: Sequence[Candidate], metrics: Sequence[Metric]) -> list[Candidate]:
    within = {candidate.number: candidate for candidate in candidates if not candidate.over}
    return [within[number] for number in front({n: c.readings for n, c in within.items()}, metrics)]


def _require(metrics: Sequence[Metric], readings: Readings, where: str) -> None:
    missing = [metric.name for metric in metrics if metric.name not in readings]
    if missing:
        raise BadArtefact(f"{where} has no reading of {', '.join(missing)}, an objective of the run; start a new run")


def _floats(value: object, count: int) -> tuple[float, ...] | None:
    """A list of `count` predictions stored by the guided sampler, as a tuple; None for other samplers."""
    if isinstance(value, list) and len(value) == count and all(isinstance(number, int | float) for number in value):
        return tuple(float(number) for number in value)
    return None


def _mean_seconds(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for trial in trials:
        for phase, seconds in trial.user_attrs.get("seconds", {}).items():
            found.setdefault(phase, []).append(float(seconds))
    return {phase: sum(seconds) / len(seconds) for phase, seconds in found.items()}


def _kept(gene: str, choices: Mapping[str, object]) -> bool:
    """Whether the gene chooses the precision of weights that the network has: the block exists and has such weights."""
    block, _, name = gene.partition(".")
    depth, place = choices.get("depth"), re.fullmatch(r"b(\d+)", block)
    if not is_precision(gene) or place is None or (isinstance(depth, int) and int(place[1]) >= depth):
        return False
    if name in FFN:
        return bool(choices.get(f"{block}.mlp", True))
    mixer = choices.get(f"{block}.mixer")  # None where all blocks have the same
    return mixer is None or has_weights(str(mixer))


def _mixers(choices: Mapping[str, object]) -> dict[int, str]:
    """Block number -> mixer, and with it the feed-forward where that is chosen too."""

    def whole(block: str, mixer: object) -> str:
        ffn = choices.get(f"b{block}.ffn") if choices.get(f"b{block}.mlp", True) else None
        return str(mixer) if ffn is None else f"{mixer}+{ffn}"

    found = {m[1]: value for name, value in choices.items() if (m := re.fullmatch(r"b(\d+)\.mixer", name))}
    return {int(block): whole(block, value) for block, value in found.items()}
