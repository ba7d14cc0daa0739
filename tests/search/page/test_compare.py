"""Several runs on one page: what does not compare is said, and left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.pages import Page
from wb.cli.main import app
from wb.core.measures.metrics import METRICS
from wb.search.page.compare import grounds, read, together
from wb.search.run import Run

METRIC = METRICS["acc"]


@pytest.fixture
def two(originals: Callable[..., Path], tmp_path: Path) -> list[Run]:
    """Two runs of other seeds, on the same data and device."""
    return [Run(shutil.copytree(originals(trials=20, seed=seed), tmp_path / f"r{seed}")) for seed in (0, 1)]


def edit(run: Run, change: Callable[[Any], None]) -> None:
    record = json.loads(run.record_path.read_text())
    change(record)
    run.record_path.write_text(json.dumps(record))


def wb(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_front_of_all_has_what_no_other_makes_superfluous(two: list[Run], tmp_path: Path) -> None:
    result = wb("report", *(run.folder for run in two))
    assert result.exit_code == 0, result.output
    page = Page((tmp_path / "comparison.html").read_text())
    assert {"figure-fronts", "together", "runs"} <= page.ids()
    compared = read(two)
    found = grounds(compared)
    assert (found.cost.name, list(found.notes), found.together) == ("latency", [], True)
    rows = together(compared, found, tmp_path)
    everything = [point for one in compared for point in one.points]
    assert {row.run for row in rows} <= {"r0", "r1"}
    best = max(everything, key=lambda point: point.validation.value)
    assert best in [row.point for row in rows]
    for row in rows:  # by value, nothing is both more accurate and faster for sure
        assert not [
            other
            for other in everything
            if other.validation.value >= row.point.validation.value
            and other.values["latency"].value < row.point.values["latency"].value
            and not other.values["latency"].overlaps(row.point.values["latency"])
        ]
        assert f"{row.run}/models/{row.point.id}.onnx" in page.links()


def test_other_paces_are_divided_out(two: list[Run], tmp_path: Path) -> None:
    edit(two[1], lambda record: record["pace"].update(value=0.32, interval=[0.318, 0.322]))
    compared = read(two)
    found = grounds(compared)
    assert (found.cost.name, found.together, len(found.notes)) == ("pace", True, 1)
    assert "r0: 0.16 ms" in found.notes[0]
    for row in together(compared, found, tmp_path):
        pace = {"r0": 0.16, "r1": 0.32}[row.run]
        assert row.cost.value == pytest.approx(row.point.values["latency"].value / pace)
        assert row.cost.unit == "x"


def test_other_devices_and_data_have_no_front_together(two: list[Run], tmp_path: Path) -> None:
    edit(two[1], lambda record: record["machine"].update(device="a telephone <i>"))
    out = tmp_path / "c.html"
    assert wb("report", *(run.folder for run in two), "-o", out).exit_code == 0
    page = Page(out.read_text())
    assert "cannot be compared" in page.text
    assert "r1: a telephone <i>" in page.text
    assert "together" not in page.ids()
    edit(two[1], lambda record: record["data"].update(fingerprint="other", spec="imagefolder:x"))
    notes = grounds(read(two)).notes
    assert len(notes) == 2
    assert "r1: imagefolder:x" in notes[0]


def test_what_is_no_run_or_twice_the_same_is_refused(two: list[Run], tmp_path: Path) -> None:
    result = wb("report", two[0].folder, tmp_path)
    assert (result.exit_code, "is a folder" in result.stderr) == (1, True)
    result = wb("report", two[0].folder, two[0].folder)
    assert (result.exit_code, "a run comes twice" in result.stderr) == (2, True)


def test_a_run_without_a_front_is_listed_but_not_alone(
    originals: Callable[..., Path], two: list[Run], tmp_path: Path
) -> None:
    begun = Run(shutil.copytree(originals(trials=5, finished=False), tmp_path / "begun"))
    assert wb("report", two[0].folder, begun.folder).exit_code == 0
    assert "none yet" in Page((tmp_path / "comparison.html").read_text()).text
    other = shutil.copytree(begun.folder, tmp_path / "other")
    result = wb("report", begun.folder, other)
    assert (result.exit_code, "has a front yet" in result.stderr) == (1, True)
