"""The lease: one worker has it, and it is taken over from a dead one."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from wb.core.measures.metrics import METRICS
from wb.search.crew.crew import Crew
from wb.search.crew.lease import OVERDUE_S, Lease
from wb.search.study.storage import file_url
from wb.search.study.study import create_study, load_study
from wb.search.study.trials import WORKER

ELSEWHERE = "worker-elsewhere-12-abcdef01"


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return create_study(file_url(tmp_path / "study.db"), "s", [METRICS["acc"]])


def lease(folder: Path, crew: Crew) -> Lease:
    return Lease(load_study(file_url(folder / "study.db"), "s"), crew, "right")


@pytest.mark.usefixtures("study")
def test_one_has_it_at_a_time_and_says_how_long_it_took(tmp_path: Path) -> None:
    crews = Crew(tmp_path), Crew(tmp_path)
    one, two = (lease(tmp_path, crew) for crew in crews)
    with crews[0].join(), crews[1].join():
        for _ in range(2):
            with one.held() as mine:
                assert mine
                with two.held() as too:
                    assert not too
            with two.held() as too:
                assert too
    assert [term.state for term in one.terms()] == [TrialState.COMPLETE] * 4
    assert all(0 <= term.values[0] < 60 for term in two.terms())


@pytest.mark.usefixtures("study")
def test_it_is_given_back_when_what_it_is_for_fails(tmp_path: Path) -> None:
    crews = Crew(tmp_path), Crew(tmp_path)
    one, two = (lease(tmp_path, crew) for crew in crews)
    with crews[0].join(), crews[1].join():
        with pytest.raises(ZeroDivisionError), one.held():
            raise ZeroDivisionError
        with two.held() as mine:
            assert mine
    assert [term.state for term in one.terms()] == [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.usefixtures("study")
def test_two_that_begin_a_term_at_once_agree_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second looks, sees nobody, and is slow to say so: the first has begun its term meanwhile."""
    crews = Crew(tmp_path), Crew(tmp_path)
    one, two = (lease(tmp_path, crew) for crew in crews)
    looked, running = list[bool](), two._running
    with crews[0].join(), crews[1].join(), one.held() as mine:

        def blind() -> list[optuna.trial.FrozenTrial]:
            looked.append(True)
            return running() if len(looked) > 1 else []

        monkeypatch.setattr(two, "_running", blind)
        with two.held() as too:
            assert (mine, too) == (True, False)
    assert [term.state for term in one.terms()] == [TrialState.COMPLETE, TrialState.FAIL]


@pytest.mark.parametrize("silent", [True, False])
def test_a_holder_elsewhere_keeps_it_while_its_heart_beats(tmp_path: Path, study: optuna.Study, silent: bool) -> None:
    crew = Crew(tmp_path)
    own = lease(tmp_path, crew)
    with own.held():
        pass
    terms = optuna.load_study(storage=study._storage, study_name="s:right")
    terms.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={WORKER: ELSEWHERE}))
    beating = terms.trials[1]._trial_id
    study._storage.record_heartbeat(beating)  # type: ignore[attr-defined]
    if silent:
        with closing(sqlite3.connect(tmp_path / "study.db")) as db, db:
            db.execute(
                "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 day') WHERE trial_id = ?", (beating,)
            )
    with crew.join(), own.held() as mine:
        assert mine == silent


@pytest.mark.usefixtures("study")
def test_a_holder_elsewhere_that_died_before_its_heart_beat_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Crew(tmp_path)
    own = lease(tmp_path, crew)
    own._study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={WORKER: ELSEWHERE}))
    begun, got = time.monotonic(), list[bool]()
    with crew.join():
        for seconds in (0.0, 0.9 * OVERDUE_S, 1.1 * OVERDUE_S):
            monkeypatch.setattr(time, "monotonic", lambda s=seconds: begun + s)
            with own.held() as mine:
                got.append(mine)
    assert got == [False, False, True]


@pytest.mark.parametrize("hours", [-7, 7])
def test_a_holder_in_another_time_zone_keeps_it(tmp_path: Path, study: optuna.Study, hours: int) -> None:
    crew = Crew(tmp_path)
    own = lease(tmp_path, crew)
    term = create_trial(state=TrialState.RUNNING, user_attrs={WORKER: ELSEWHERE})
    term.datetime_start = datetime.now() + timedelta(hours=hours)
    own._study.add_trial(term)
    study._storage.record_heartbeat(own.terms()[0]._trial_id)  # type: ignore[attr-defined]
    with crew.join(), own.held() as mine:
        assert not mine


@pytest.mark.usefixtures("study")
def test_a_worker_that_could_not_end_its_term_does_so_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crews = Crew(tmp_path), Crew(tmp_path)
    one, two = (lease(tmp_path, crew) for crew in crews)

    def away(*_: object) -> None:
        raise OSError("away")

    with crews[0].join(), crews[1].join():
        with monkeypatch.context() as patch, pytest.raises(OSError, match="away"), one.held():
            patch.setattr(one, "_end", away)
        with two.held() as mine:
            assert not mine, "the worker lives"
        one.give_back()
        with two.held() as mine:
            assert mine
