"""Who works on what, and how many evaluations an hour that makes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from wb.search.crew.crew import Crew, told
from wb.search.crew.pace import at_work, pace_of
from wb.search.study.trials import WORKER

START = datetime(2026, 1, 1, 12)


def trial(begins: float, seconds: float, worker: str, wait: float = 0.0) -> FrozenTrial:
    """An evaluated trial that began so many seconds after `START`."""
    made = create_trial(value=0.0, user_attrs={WORKER: worker, "seconds": {"score": seconds - wait, "wait": wait}})
    made.datetime_start = START + timedelta(seconds=begins)
    made.datetime_complete = made.datetime_start + timedelta(seconds=seconds)
    return made


def test_the_pace_is_that_of_all_workers_while_any_is_at_work() -> None:
    alone = pace_of([trial(0, 2, "a"), trial(2, 2, "a"), trial(4, 2, "a")])
    assert alone is not None
    assert (alone.hourly, alone.workers, alone.waiting, alone.beside) == (1800, 1, 0, 0)
    assert "worker" not in alone.text()
    later = pace_of([trial(0, 2, "a"), trial(100, 2, "b")])  # nobody was at work between
    assert later is not None
    assert (later.hourly, later.beside) == (1800, 0)
    both = pace_of([trial(0, 4, "a", 1), trial(0, 4, "b", 1)])
    assert both is not None
    assert (both.hourly, both.workers) == (1800, 2)
    assert both.waiting == pytest.approx(0.25)
    assert both.text() == (
        "1,800 evaluations an hour by 2 workers, 25% of their time lost to waiting for one another, 0% to proposals and the study"
    )
    assert pace_of([trial(0, 2, "a")]) is None


def test_time_beside_evaluations_is_lost_too() -> None:
    gap = pace_of([trial(0, 3, "a"), trial(5, 3, "a"), trial(0, 8, "b", 2)])
    assert gap is not None
    assert gap.waiting == gap.beside == pytest.approx(2 / 16)
    inside = trial(0, 4, "a")
    inside.datetime_complete = START + timedelta(seconds=5)  # a second to propose it and to write it down
    proposed = pace_of([inside, trial(5, 5, "a")])
    assert proposed is not None
    assert proposed.text() == "720 evaluations an hour, 10% of the time lost to proposals and the study"


def test_the_dead_are_not_at_work(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    names = [crew.name, f"worker-{crew.machine}-1-deadbeef", "worker-elsewhere-12-00ff00ff"]
    running = [create_trial(state=TrialState.RUNNING, user_attrs={WORKER: name}) for name in names]
    for number, one in enumerate(running):
        one.number, one.datetime_start = number, datetime.now() - timedelta(seconds=90)
    with crew.join():
        found = at_work(running, Crew(tmp_path))
    assert [one.number for one in found] == [0, 2]
    assert found[1].text() == "candidate 2: process 12 of elsewhere, for 1 min 30 s"
    assert told("") == "a process without a name"
