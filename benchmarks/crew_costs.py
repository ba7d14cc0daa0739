"""What work beside evaluations costs a search of many workers, for `crew_scale.py`: at its storage, and for the sampler's plans.

All of it is CPU time, so that other work on this machine does not count, and waiting for disk and network is left out.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import text
from tables import Table, told

from wb.core.space import Choices, Option
from wb.search.crew.proposing import Queue
from wb.search.sampler.guided import GuidedSampler
from wb.search.study.storage import open_storage
from wb.search.study.trials import WORKER

BATCH, INITIAL = 15, 25  # candidates that a sampler plans at once, and evaluations before the first plan
TICKS = os.sysconf("SC_CLK_TCK")
READS = 3  # of all trials by a worker: before it asks for a candidate, as it claims it, and after the evaluation


class Genes:
    """A space of as many genes as `hybrid` has, with four options each; only its size matters here."""

    def __init__(self, count: int) -> None:
        self.genes: dict[str, tuple[Option, ...]] = {f"g{i}": (1, 2, 3, 4) for i in range(count)}

    def active(self, choices: Choices) -> frozenset[str]:
        del choices
        return frozenset(self.genes)


@dataclass(frozen=True)
class Costs:
    """CPU seconds by the number of candidates under way (worker, server, adding one), and of planning by evaluations."""

    open: Sequence[int]
    worker: Sequence[float]
    server: Sequence[float]
    adding: Sequence[float]
    archive: Sequence[int]
    planning: Sequence[float]

    def at(self, what: Sequence[float], open_: int) -> float:
        return float(np.interp(open_, self.open, what))

    def plan(self, evaluations: int) -> float:
        return 0.0 if evaluations < INITIAL else float(np.interp(evaluations, self.archive, self.planning))


class Server:
    """CPU seconds of the process that serves a connection; none of a file, whose work is the worker's own."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._stat: Path | None = None
        if storage.engine.dialect.name == "postgresql":
            with storage.engine.connect() as connection:
                self._stat = Path(f"/proc/{connection.execute(text('select pg_backend_pid()')).scalar()}/stat")

    def seconds(self) -> float:
        if self._stat is None:
            return 0.0
        fields = self._stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def study_at(url: str) -> Iterator[tuple[optuna.Study, Server]]:
    storage = open_storage(url, create=True)
    name = f"wb-scale-{uuid4().hex[:8]}"
    study = optuna.create_study(storage=storage, study_name=name, directions=["minimize"] * 2)
    try:
        yield study, Server(storage)
    finally:
        optuna.delete_study(study_name=name, storage=storage)
        storage.engine.dispose()


def measure_storage(url: str, space: Genes, open_: int, turns: int = 8) -> tuple[float, float, float, float]:
    """CPU seconds of a worker and of the server for a candidate, of both for adding one; wall seconds of a candidate (median)."""
    rng = np.random.default_rng(0)
    with study_at(url) as (study, server):
        for _ in range(open_):
            study.add_trial(template(space, rng, TrialState.RUNNING))
        study.get_trials(deepcopy=False)
        adding = time.process_time() + server.seconds()
        for _ in range(turns):
            study._storage.create_new_trial(study._study_id, template(space, rng, TrialState.WAITING))
        adding = time.process_time() + server.seconds() - adding
        queue, walls = Queue(study.study_name, study._storage), []
        queue.waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        own, there = time.process_time(), server.seconds()
        for _ in range(turns):
            start = time.perf_counter()
            queue.optimize(lambda trial: turn(study, trial, space), n_trials=1)
            walls.append(time.perf_counter() - start)
        own, there = time.process_time() - own, server.seconds() - there
    return own / turns, there / turns, adding / turns, float(np.median(walls))


def turn(study: optuna.Study, trial: optuna.Trial, space: Genes) -> list[float]:
    """What a worker reads and writes around an evaluation."""
    study._storage.set_trial_user_attr(trial._trial_id, WORKER, "worker-here-1-abcdef01")
    for name, options in space.genes.items():
        trial.suggest_categorical(name, options)
    for _ in range(READS):
        study.get_trials(deepcopy=False)
    for name, value in READINGS.items():
        trial.set_user_attr(name, value)
    return [0.5, 1.0]


READING = {"value": 0.5, "unit": "ms", "how": "measured", "interval": [0.4, 0.6], "n": 40, "device": "cpu", "note": ""}
READINGS: Mapping[str, Any] = {
    "readings": dict.fromkeys(("acc", "latency", "size", "macs", "params"), READING),
    "violations": [],
    "seconds": dict.fromkeys(("extract", "export", "wait", "time", "score"), 0.1),
}


def template(space: Genes, rng: np.random.Generator, state: TrialState) -> optuna.trial.FrozenTrial:
    choices = {name: options[rng.integers(4)] for name, options in space.genes.items()}
    distributions = {name: CategoricalDistribution(options) for name, options in space.genes.items()}
    attributes = {WORKER: "worker-there-1-abcdef01"} if state == TrialState.RUNNING else {}
    return create_trial(state=state, params=choices, distributions=distributions, user_attrs=attributes)


def measure_planning(space: Genes, archive: int, workers: int) -> float:
    """CPU seconds of planning a batch on so many evaluations of a made-up problem."""
    rng = np.random.default_rng(archive)
    sampler = GuidedSampler(space, seed=0, workers=workers)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    distributions = {name: CategoricalDistribution(options) for name, options in space.genes.items()}
    weights = rng.random((2, len(space.genes)))
    for _ in range(archive):
        choices = {name: options[rng.integers(4)] for name, options in space.genes.items()}
        row = np.array(list(choices.values()), dtype=float)
        values = [float(weights[0] @ row), float(-(weights[1] @ np.sqrt(row)))]
        study.add_trial(create_trial(params=choices, distributions=distributions, values=values))
    start = time.process_time()
    sampler.batch(study)
    return time.process_time() - start


def measured(options: argparse.Namespace, url: str, out: Any) -> Costs:
    """Measures storage and sampler, and prints both."""
    space = Genes(options.genes)
    kind = url.partition(":")[0].partition("+")[0]
    ms = Table(
        f"{kind}: ms beside the evaluation of a candidate, {options.genes} genes",
        ("under way", "worker, CPU", "server, CPU", "adding one, CPU", "wall, median"),
    )
    rows = []
    for open_ in options.open:
        told(f"storage with {open_} candidates under way")
        rows.append(measure_storage(url, space, open_))
        ms.row(str(open_), *(f"{1000 * value:.1f}" for value in rows[-1]))
    out.table(ms)
    plans = Table("guided sampler: CPU s of planning a batch", ("evaluations", f"{BATCH}", "250"))
    planning = []
    for archive in options.archive:
        told(f"planning on {archive} evaluations")
        pair = [measure_planning(space, archive, workers) for workers in (1, 1000)]
        planning.append(pair[1])
        plans.row(str(archive), *(f"{value:.2f}" for value in pair))
    out.table(plans)
    worker, server, adding, _ = zip(*rows, strict=True)
    return Costs(options.open, worker, server, adding, options.archive, planning)
