"""What a run says of itself while it is under way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from optuna.trial import FrozenTrial, create_trial

from wb.search.crew.crew import Crew
from wb.search.fidelity.choice import choose, expected
from wb.search.page.contents import read_trials
from wb.search.run import Run
from wb.search.study.standing import standing
from wb.search.study.trials import at_once, busy, readings_of

Fabricate = Callable[..., Run]


def told(run: Run) -> str:
    record = run.read()
    return standing(run, record, read_trials(run, record))


def test_a_run_says_how_many_finalists_are_ready_and_what_is_next(fabricate: Fabricate) -> None:
    run = fabricate(finished=False)
    record = run.read()
    count = len(choose(read_trials(run, record), record.config.metrics, record.config.limits))
    assert "the supernet is not trained" in told(run)
    run.supernet_path.touch()
    assert f"All 24 candidates are evaluated, and 0 of {count} finalists are fine-tuned and exported; next" in told(run)
    assert told(run).endswith(f"continue with: wb search --resume {run.folder}")
    run.staging.mkdir()
    chosen = list(choose(read_trials(run, record), record.config.metrics, record.config.limits))
    for number in (*chosen[:2], 999):
        (run.staging / f"{number}.onnx").touch()
    assert f"2 of {count} finalists" in told(run)
    with Crew(run.folder).sole(lambda: None):
        assert "a process is at it" in told(run)
    for number in chosen:
        (run.staging / f"{number}.onnx").touch()
    assert f"{count} of {count} finalists are fine-tuned and exported; next: all are timed together" in told(run)


def test_a_run_says_how_many_candidates_are_trained_alone(fabricate: Fabricate) -> None:
    run = fabricate(finished=False, rungs="12x1,4x3")
    run.supernet_path.touch()
    trials = read_trials(run, run.read())
    rungs = {1: {trial.number: readings_of(trial)["acc"] for trial in trials[:12]}}
    run.write(run.read().model_copy(update={"rungs": rungs}))
    assert "All 24 candidates are evaluated, and 12 of about 16 trainings alone are done; next: the others" in told(run)
    run.write(run.read().model_copy(update={"rungs": {**rungs, 3: dict(list(rungs[1].items())[:4])}}))
    assert "of 4 finalists are fine-tuned" in told(run)


def test_a_run_says_how_many_candidates_are_left_and_who_is_at_them(fabricate: Fabricate) -> None:
    run = fabricate(trials=10, finished=False)
    run.supernet_path.touch()
    assert told(run).startswith("No front yet: 10 of 24 candidates are evaluated; next are the others")
    with Crew(run.folder).join():
        assert "1 process evaluates candidates" in told(run)


def test_a_finished_run_has_nothing_to_say_and_an_extended_one_says_what_its_front_is_of(fabricate: Fabricate) -> None:
    run = fabricate()
    record = run.read()
    run.write(record.model_copy(update={"finished": {"trials": 24, "finetune": record.config.finetune}}))
    assert told(run) == ""
    config = record.config.model_copy(update={"trials": 30})
    run.write(record.model_copy(update={"finished": {"trials": 24, "finetune": config.finetune}, "config": config}))
    run.supernet_path.touch()
    assert told(run).startswith("No front of 30 candidates yet: 24 of 30 candidates are evaluated; next")
    assert " (the front is that of 24 candidates); continue with: " in told(run)


def test_a_budget_that_nothing_meets_is_what_is_said(fabricate: Fabricate) -> None:
    run = fabricate(finished=False, budget=("params=1",))
    run.supernet_path.touch()
    assert "none of 24 evaluated candidates is within the budget" in told(run)


def test_how_many_candidates_were_evaluated_at_once_is_read_off_their_times() -> None:
    def trial(start: int, end: int) -> FrozenTrial:
        made = create_trial(values=[0.0])
        made.datetime_start, made.datetime_complete = (datetime(2026, 1, 1, 12, minute) for minute in (start, end))
        return made

    assert at_once([trial(0, 5), trial(5, 9), trial(10, 12)]) == 1
    assert at_once([trial(0, 5), trial(3, 9), trial(4, 4), trial(8, 12)]) == 2
    assert at_once([trial(0, 5), trial(3, 9), trial(4, 6)]) == 3
    assert at_once([]) == 1
    assert busy([trial(0, 5), trial(5, 9), trial(10, 12)]) == 60 * 11
    assert busy([trial(0, 5), trial(3, 9), trial(4, 4), trial(8, 12)]) == 60 * 12
    assert busy([]) == 0


def test_finalists_are_as_many_as_a_front_of_so_many_objectives_has() -> None:
    """Ten of a hundred with two objectives, one with one; never more than are finished."""
    assert [expected(100, d) for d in (1, 2, 3, 4)] == [1, 10, 22, 24]
    assert expected(1, 2) == 1
