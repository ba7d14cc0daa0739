"""Workers that are killed, that are interrupted, and that work on one study together."""

from __future__ import annotations

import json
import runpy
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import OperationalError

from tests.processes import Program
from wb.core.architecture import Architecture
from wb.core.errors import StorageFailed
from wb.search.crew.crew import Crew
from wb.search.evaluate import Evaluation
from wb.search.sampler.batched import PLAN
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import beat, file_url
from wb.search.study.study import create_study, load_study
from wb.search.study.trials import WORKER, evaluated

SCRIPT = Path(__file__).with_name("workers_script.py")
KIT = runpy.run_path(str(SCRIPT))
OBJECTIVES, SPACE, TRIALS = KIT["OBJECTIVES"], KIT["SPACE"], KIT["TRIALS"]
evaluate: Callable[[Architecture], Evaluation] = KIT["evaluate"]


def script(*arguments: object) -> Any:
    result = Program(f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')", *arguments).end()
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_search_that_was_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed in the first evaluation, in others, and between two parameters: numbers, candidates, predictions, front."""
    for sampler, found in script("kills", tmp_path, "guided", "tpe").items():
        assert len(found["whole"]["candidates"]) == TRIALS, sampler
        assert found["part"] == found["whole"], sampler
        assert found["part"]["left"] == [], sampler


def test_workers_on_one_study_evaluate_what_was_asked_for_and_nothing_twice(tmp_path: Path) -> None:
    """Three of them, one of which is killed within an evaluation."""
    (found,) = script("together", tmp_path, "random").values()
    assert sorted(found["codes"]) == [0, 0, 9]
    assert len(found["log"]) == len(set(found["log"])) == len(found["candidates"]) == TRIALS
    assert not {"RUNNING", "FAIL"} & set(found["left"])


def test_one_of_many_workers_proposes_for_all_and_another_does_when_it_is_killed(tmp_path: Path) -> None:
    """Killed while it plans, and while it adds what it has planned: what it has added is evaluated, and nothing twice."""
    (found,) = script("proposing", tmp_path, "guided").values()
    assert found["codes"] == [9, 9, 0, 0]
    assert len(found["log"]) == len(set(found["log"])) == len(found["candidates"]) == 2 * TRIALS
    assert found["left"] == []
    states = [state for state, *_ in found["terms"]]
    assert states[:2] == ["FAIL", "FAIL"], "of those that were killed"
    assert 2 <= len(found["plans"]) <= 6, "a batch is planned once, and there are few"
    assert len(found["plans"]) <= len(states), "terms may add nothing: another worker may just have done so"
    told = [predicted for *_, predicted in found["candidates"] if predicted]
    assert len(told) >= 5, "proposals have their predictions"
    held = sorted((begin, end) for state, begin, end in found["terms"] if state == "COMPLETE")
    assert all(end <= begin for (_, end), (begin, _) in pairwise(held)), "one at a time"


def search(folder: Path, trials: int, evaluate: Any, sampler: str = "random") -> list[int]:
    """One worker; the numbers that it reported."""
    reported: list[int] = []
    crew, study = Crew(folder), load_study(file_url(folder / "study.db"), "s")
    study.sampler = make_sampler(sampler, SPACE, (), 0, crew.name)  # type: ignore[arg-type]
    Optimization(study, SPACE, OBJECTIVES, (), evaluate, trials, lambda done, _: reported.append(done), crew)()
    return reported


def test_no_trial_begins_once_it_is_late_and_those_that_are_done_stay(tmp_path: Path) -> None:
    create_study(file_url(tmp_path / "study.db"), "s", OBJECTIVES)
    crew, study = Crew(tmp_path), load_study(file_url(tmp_path / "study.db"), "s")
    study.sampler = make_sampler("random", SPACE, (), 0, crew.name)

    def run(late: Callable[[Any], bool]) -> int:
        return Optimization(study, SPACE, OBJECTIVES, (), evaluate, 6, lambda *_: None, crew, late)()

    assert run(lambda done: len(done) >= 3) == 3
    assert {trial.state for trial in study.get_trials()} == {TrialState.COMPLETE}
    assert run(lambda _: True) == 3
    assert run(lambda _: False) == 6


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_ends_an_evaluation_is_raised_and_the_candidate_is_taken_up_again(
    tmp_path: Path, error: type[BaseException]
) -> None:
    create_study(file_url(tmp_path / "study.db"), "s", OBJECTIVES)
    asked: list[Architecture] = []

    def fail(architecture: Architecture) -> Evaluation:
        asked.append(architecture)
        if len(asked) == 2:
            raise error
        return evaluate(architecture)

    with pytest.raises(error):
        search(tmp_path, 3, fail)
    assert search(tmp_path, 3, fail) == [1, 2, 3], "progress begins where the study is"
    assert asked[1] == asked[2]
    study = load_study(file_url(tmp_path / "study.db"), "s")
    assert [(trial.number, trial.state) for trial in study.trials] == [(i, TrialState.COMPLETE) for i in range(3)]


def test_a_worker_that_lives_is_left_alone_and_what_it_does_is_waited_for(tmp_path: Path) -> None:
    """Its candidate counts as one of those that were asked for."""
    url = file_url(tmp_path / "study.db")
    study, other = create_study(url, "s", OBJECTIVES), Crew(tmp_path)
    study.sampler = make_sampler("random", SPACE, (), 0, other.name)

    def second(architecture: Architecture) -> Evaluation:
        """Meanwhile another worker does all it can, and stops without an evaluation too many."""
        if not evaluated(study):
            crew, again = Crew(tmp_path), load_study(url, "s")
            again.sampler = make_sampler("random", SPACE, (), 0, crew.name)
            assert not crew.is_dead(other.name, datetime.now() - timedelta(days=1))
            worker = Optimization(again, SPACE, OBJECTIVES, (), evaluate, 3, lambda *_: None, crew)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("wb.search.study.optimize.time.sleep", lambda _: (_ for _ in ()).throw(InterruptedError))
                with pytest.raises(InterruptedError):  # it waits, with two of three done and one under way
                    worker()
            assert len(evaluated(again)) == 2
        return evaluate(architecture)

    Optimization(study, SPACE, OBJECTIVES, (), second, 3, lambda *_: None, other)()
    assert len(evaluated(study)) == 3
    assert Crew(tmp_path).is_dead(other.name, datetime.now())


@pytest.mark.parametrize("silent", [True, False])
def test_a_worker_elsewhere_is_waited_for_while_its_heart_beats_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """What it had begun is all that is wanted, so that nobody asks Optuna for another candidate."""
    study = create_study(file_url(tmp_path / "study.db"), "s", OBJECTIVES)
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={WORKER: "worker-elsewhere-12-abcdef01"}))
    beat(study, study.trials[0])
    if silent:
        with closing(sqlite3.connect(tmp_path / "study.db")) as db, db:
            db.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 day')")

    def wait(_: float) -> None:
        raise InterruptedError

    monkeypatch.setattr("wb.search.study.optimize.time.sleep", wait)
    if silent:
        assert search(tmp_path, 1, evaluate) == [1]
        assert [(t.number, t.state) for t in study.trials] == [(0, TrialState.COMPLETE)]
    else:
        with pytest.raises(InterruptedError):
            search(tmp_path, 1, evaluate)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_study(file_url(tmp_path / "study.db"), "s", OBJECTIVES)
    search(tmp_path, 2, evaluate)

    def full(*_: object, **__: object) -> None:
        raise StorageInternalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, "_set_trial_param", full)
        with pytest.raises(StorageFailed, match="disk is full"):
            search(tmp_path, 3, evaluate)
    assert search(tmp_path, 3, evaluate) == [2, 3]


@pytest.mark.parametrize(
    "plan", ["nothing", 7, {"evaluations": 0, "batch": [[[99] * 3, [], []]]}, {"evaluations": "x"}]
)
def test_a_damaged_plan_is_made_anew(tmp_path: Path, plan: object) -> None:
    study = create_study(file_url(tmp_path / "study.db"), "s", OBJECTIVES)
    study._storage.set_study_system_attr(study._study_id, PLAN, plan)  # type: ignore[arg-type]
    assert search(tmp_path, 2, evaluate, "guided") == [1, 2]


@pytest.mark.parametrize("patience", [60.0, 0.0])
def test_a_server_that_is_started_again_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """The storage is said to be a server's, and does not write for a while in the middle of a trial."""
    create_study(file_url(tmp_path / "study.db"), "s", OBJECTIVES)
    crew, study = Crew(tmp_path), load_study(file_url(tmp_path / "study.db"), "s")
    study.sampler = make_sampler("random", SPACE, (), 0, crew.name)
    asked, told = [0], list[str]()
    write = RDBStorage._set_trial_param

    def away(*arguments: Any, **named: Any) -> None:
        asked[0] += 1
        if asked[0] == 2:
            raise StorageInternalError("away") from OperationalError("", {}, Exception("server closed the connection"))
        write(*arguments, **named)

    monkeypatch.setattr(RDBStorage, "_set_trial_param", away)
    monkeypatch.setattr(study._storage._backend.engine.dialect, "name", "postgresql")  # type: ignore[attr-defined]
    monkeypatch.setattr("wb.search.study.optimize.PATIENCE_S", patience)
    run = Optimization(study, SPACE, OBJECTIVES, (), evaluate, 4, lambda *_: None, crew, say=told.append)
    if patience:
        assert run() == 4
        assert told[1:] == ["the storage answers again"]
        assert {trial.state for trial in study.get_trials()} == {TrialState.COMPLETE}
    else:
        with pytest.raises(StorageFailed, match="closed the connection"):
            run()
    assert "server closed the connection" in told[0]
