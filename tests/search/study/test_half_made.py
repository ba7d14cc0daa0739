"""A search that ended before its run began is started over by the same command; what is anybody else's stays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wb.cli.main import app
from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.search.crew.crew import Crew
from wb.search.run import Run, create
from wb.search.study.half_made import STUDY
from wb.search.study.storage import file_url
from wb.search.study.study import create_study

SEARCH = ("search", "--limit", "100", "--objectives", "acc,params")


def half_made(folder: Path, name: str = STUDY) -> None:
    """What a process leaves that is killed between study and record."""
    with Crew(folder).sole(lambda: None):
        create_study(file_url(folder / "study.db"), name, [METRICS["acc"]])


def begun(folder: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> Result:
    """The search is interrupted where it calls `ends`; nothing is timed."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        pace = Reading(value=1.0, unit="ms", how="measured")
        patch.setattr("wb.search.pipeline.reference_pace", lambda _: pace)
        patch.setattr(ends, interrupt)
        return CliRunner().invoke(app, [*SEARCH, "-o", str(folder)])


@pytest.mark.parametrize(
    "ends",
    [
        "wb.search.pipeline.check_budget",
        "wb.search.pipeline.reference_pace",
        "optuna.Study.set_metric_names",
        "wb.search.run.Run.write",
    ],
)
def test_a_search_that_is_interrupted_before_its_run_begins_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    result = begun(tmp_path / "run", monkeypatch, ends)
    assert result.exit_code == 130, result.output
    assert result.stderr.splitlines()[-1] == "interrupted: nothing was written; the same command starts over"
    assert not list(tmp_path.iterdir())


def test_the_command_of_a_search_that_was_killed_then_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_made(tmp_path)
    (tmp_path / ".run.json.k3u1.json").touch()
    result = begun(tmp_path, monkeypatch, "wb.search.together.stage.train_supernet")
    assert result.exit_code == 130, result.output
    assert f"continue with: wb search --resume {tmp_path}" in result.stderr
    assert Run(tmp_path).read().study == STUDY


def test_locks_alone_are_no_run(tmp_path: Path) -> None:
    with Crew(tmp_path).sole(lambda: None), pytest.raises(BadOption, match="not empty"):
        create(tmp_path)  # somebody begins one at this moment
    assert create(tmp_path).folder == tmp_path


def with_a_trial(folder: Path) -> None:
    create_study(file_url(folder / "study.db"), STUDY, [METRICS["acc"]]).enqueue_trial({})


def with_a_file(folder: Path, name: str) -> None:
    half_made(folder)
    (folder / name).touch()


@pytest.mark.parametrize(
    "fill",
    [
        with_a_trial,
        partial(half_made, name="another"),
        lambda folder: (folder / "study.db").write_text("no database"),
        lambda folder: with_a_file(folder, "study.db.copy"),
        lambda folder: with_a_file(folder, "run.json"),
    ],
)
def test_what_somebody_may_need_is_refused_and_kept(tmp_path: Path, fill: Callable[[Path], object]) -> None:
    fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(BadOption, match="exists and is not empty"):
        create(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
