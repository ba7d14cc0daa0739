"""The locks of the processes that work on one run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from wb.core.errors import StorageFailed
from wb.search.crew.crew import FOLDER, Crew

LONG_AGO = datetime.now() - timedelta(days=1)


def test_a_worker_is_known_while_it_is_there_and_gone_at_once_when_it_is_not(tmp_path: Path) -> None:
    one, two = Crew(tmp_path), Crew(tmp_path)
    with one.join():
        assert two.others() == [one.name]
        assert one.others() == []
        assert not two.is_dead(one.name, LONG_AGO)
        assert not one.is_dead(one.name, LONG_AGO)
        assert two.is_dead(two.name, LONG_AGO), "it has not joined"
    assert two.others() == []
    assert two.is_dead(one.name, datetime.now())
    two.disband(whole=False)
    assert not list((tmp_path / FOLDER).glob("worker-*"))


def test_who_signed_nothing_is_gone_when_nobody_is_there_or_after_a_while(tmp_path: Path) -> None:
    one, two = Crew(tmp_path), Crew(tmp_path)
    for name in (None, "", "../../etc/passwd", 7, "worker-/x"):
        assert two.is_dead(name, datetime.now())
        with one.join():
            assert not two.is_dead(name, datetime.now())
            assert two.is_dead(name, LONG_AGO)


def test_a_worker_of_another_machine_is_left_to_its_heartbeats(tmp_path: Path) -> None:
    assert not Crew(tmp_path).is_dead("worker-elsewhere-12-abcdef01", LONG_AGO)


def test_only_one_is_sole_and_the_other_is_told_before_it_waits(tmp_path: Path) -> None:
    one, two = Crew(tmp_path), Crew(tmp_path)
    told: list[bool] = []

    def stop() -> None:
        told.append(two.busy())
        raise InterruptedError

    with one.sole(lambda: told.append(False)):
        with pytest.raises(InterruptedError), two.sole(stop):
            raise AssertionError("both are")
        with one.timing(), one.reclaiming():
            pass
    assert told == [True]
    assert not two.busy()
    with two.sole(lambda: told.append(False)):
        pass
    assert told == [True]


def test_looking_writes_nothing(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    assert (crew.others(), crew.busy()) == ([], False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("no folder")
    with pytest.raises(StorageFailed, match="could not lock"), Crew(tmp_path).sole(lambda: None):
        pass


def test_what_an_abandoned_run_leaves_is_taken_away(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    with crew.sole(lambda: None), crew.join():
        pass
    crew.disband(whole=True)
    assert not list(tmp_path.iterdir())
