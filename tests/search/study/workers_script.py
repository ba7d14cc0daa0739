"""Workers that are killed, or that work together, on a study whose evaluations are made up: run as a script, it prints JSON.

    python workers_script.py kills FOLDER SAMPLER     the sequence of candidates, uninterrupted and with kills
    python workers_script.py together FOLDER SAMPLER  what three workers evaluated, one of which is killed
    python workers_script.py proposing FOLDER SAMPLER the same of four that propose for each other, two of which are killed at it

Processes are forked here, where nothing has started a thread yet; that is a hundred times cheaper than starting them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from optuna import Study
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from wb.core.architecture import Architecture
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput
from wb.models.counting import count_parameters
from wb.search.crew import proposing as proposals
from wb.search.crew.crew import Crew
from wb.search.crew.proposing import EACH, PROPOSER, Proposer
from wb.search.ending.front import front
from wb.search.evaluate import Evaluation
from wb.search.sampler.batched import BatchSampler
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import file_url
from wb.search.study.study import create_study, load_study
from wb.search.study.trials import evaluated, readings_of
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

OBJECTIVES = (METRICS["acc"], METRICS["params"])
IMAGE = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
SPACE = Vit(options_with(TINY, {"embed": [8, 16], "depth": [1, 2], "mixer": ["none", "pool", "softmax"]}), IMAGE, 3)
TRIALS = 17
KILLED = (0, 6, 15)  # within the evaluations of these trials, one after the other; guided predicts from 15 on
MANY = EACH + 1
HALF_STORED = 16  # in this trial after four parameters


def evaluate(architecture: Architecture) -> Evaluation:
    params = count_parameters(architecture).value
    readings = {
        "acc": Reading(value=1 - 100 / params - 1e-3 * (int(params) % 7), unit="fraction", how="measured"),
        "params": Reading(value=params, unit="parameters", how="counted"),
    }
    return Evaluation(readings, {"score": 0.0})


def work(
    folder: Path, sampler: str, trials: int, evaluate: Callable[[Architecture], Evaluation], workers: int = 1
) -> None:
    """One worker, as a search has it."""
    crew, study = Crew(folder), load_study(file_url(folder / "study.db"), "s")
    study.sampler = made = make_sampler(sampler, SPACE, (), 0, crew.name, workers=workers)  # type: ignore[arg-type]
    proposer = None if made.batched is None else Proposer(study, made.batched, crew, workers)
    Optimization(study, SPACE, OBJECTIVES, (), evaluate, trials, lambda *_: None, crew, proposer=proposer)()


def forked(work: Callable[[], None]) -> int:
    """The process that does it."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return pid


def found(folder: Path) -> dict[str, object]:
    study = load_study(file_url(folder / "study.db"), "s")
    trials = evaluated(study)
    return {
        "candidates": [[trial.number, trial.params, trial.user_attrs.get("predicted")] for trial in trials],
        "front": front({trial.number: readings_of(trial) for trial in trials}, OBJECTIVES),
        "left": sorted(t.state.name for t in study.trials if t.state != TrialState.COMPLETE),
    }


def new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    create_study(file_url(folder / "study.db"), "s", OBJECTIVES)
    return folder


def kills(folder: Path, sampler: str) -> object:
    whole, part = new(folder / "whole"), new(folder / "part")
    os.waitpid(forked(lambda: work(whole, sampler, TRIALS, evaluate)), 0)
    for number in KILLED:

        def die(architecture: Architecture, number: int = number) -> Evaluation:
            if complete(part) >= number:
                os._exit(9)
            return evaluate(architecture)

        _, status = os.waitpid(forked(lambda: work(part, sampler, TRIALS, die)), 0)
        assert os.waitstatus_to_exitcode(status) == 9
    os.waitpid(forked(lambda: half_stored(part, sampler)), 0)
    os.waitpid(forked(lambda: work(part, sampler, TRIALS, evaluate)), 0)
    return {"whole": found(whole), "part": found(part)}


def complete(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "study.db")) as db:
        return int(db.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])


def half_stored(folder: Path, sampler: str) -> None:
    store = RDBStorage._set_trial_param

    def dying(self: RDBStorage, trial_id: int, *arguments: object) -> None:
        store(self, trial_id, *arguments)  # type: ignore[arg-type]
        trial = self.get_trial(trial_id)
        if trial.number == HALF_STORED and len(trial.params) == 4:
            os._exit(9)

    RDBStorage._set_trial_param = dying  # type: ignore[method-assign,assignment]
    work(folder, sampler, TRIALS, evaluate)


def together(folder: Path, sampler: str) -> object:
    run, log = new(folder / "run"), folder / "log"

    def slowly(architecture: Architecture, left: list[int]) -> Evaluation:
        left[0] -= 1
        if not left[0]:
            os._exit(9)
        time.sleep(0.02)
        with log.open("a") as file:
            file.write(architecture.trimmed().key + "\n")
        return evaluate(architecture)

    def worker(dies: int) -> int:
        left = [dies]
        return forked(lambda: work(run, sampler, TRIALS, lambda a: slowly(a, left)))

    pids = [worker(2)]  # it has begun before the others, which a busy machine may start late
    while not log.exists():
        time.sleep(0.01)
    pids += [worker(-1), worker(-1)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return {"log": log.read_text().split(), "codes": codes, **found(run)}


def proposing(folder: Path, sampler: str) -> object:
    """Four workers that take themselves for many; one is killed while it plans, and one while it adds what it has planned."""
    run, log = new(folder / "run"), folder / "log"

    def kept(architecture: Architecture) -> Evaluation:
        time.sleep(0.02)
        with log.open("a") as file:
            file.write(architecture.trimmed().key + "\n")
        return evaluate(architecture)

    def planning(self: BatchSampler, study: Study, least: int = 1) -> list[FrozenTrial]:
        os._exit(9)

    def adding(self: RDBStorage, study_id: int, template: FrozenTrial | None = None) -> FrozenTrial:
        found = add(self, study_id, template)
        left[0] -= template is not None and template.state == TrialState.WAITING
        return found if left[0] else os._exit(9)

    def counted(self: BatchSampler, study: Study, least: int = 1) -> list[FrozenTrial]:
        planned = plan(self, study, least)
        with plans.open("a") as file:
            file.write(f"{len(planned)}\n")
        return planned

    def worker(kind: str) -> int:
        def begin() -> None:
            BatchSampler.batch = counted  # type: ignore[method-assign]
            proposals.ADDING_S = 0.0  # evaluations are as short as tests have to be
            if kind == "planning":
                BatchSampler.batch = planning  # type: ignore[method-assign]
            if kind == "adding":
                RDBStorage._create_new_trial = adding  # type: ignore[method-assign,assignment]
            work(run, sampler, 2 * TRIALS, kept, MANY)

        return forked(begin)

    add, left = RDBStorage._create_new_trial, [3]
    plan, plans = BatchSampler.batch, folder / "plans"
    codes = [os.waitstatus_to_exitcode(os.waitpid(worker(kind), 0)[1]) for kind in ("planning", "adding")]
    pids = [worker("") for _ in range(2)]
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    terms = load_study(file_url(run / "study.db"), f"s:{PROPOSER}").trials
    return {
        "log": log.read_text().split(),
        "codes": codes,
        "plans": [int(size) for size in plans.read_text().split()],
        "terms": [[term.state.name, str(term.datetime_start), str(term.datetime_complete)] for term in terms],
        **found(run),
    }


if __name__ == "__main__":
    work(new(Path(sys.argv[2]) / "first"), "random", 1, evaluate)  # what is made on first use is there before the forks
    what = {"kills": kills, "together": together, "proposing": proposing}[sys.argv[1]]
    result = {sampler: what(Path(sys.argv[2]) / sampler, sampler) for sampler in sys.argv[3:]}
    sys.stdout.write(json.dumps(result))
