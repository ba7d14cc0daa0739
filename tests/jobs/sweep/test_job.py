"""A whole sweep on the stripes, without a clock: what it leaves, what it says, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.commands import succeeded, wb
from tests.jobs.suite import Begin, JobSuite, silent
from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.data import Dataset, load
from wb.export.timing.measure import Latency
from wb.jobs.sweep.config import AspectConfig
from wb.jobs.sweep.job import begin
from wb.jobs.sweep.record import AspectSweep, over_seeds, spread
from wb.jobs.sweep.report import remarks, result, table

CONFIG = AspectConfig(data="stripes", heads=2, depths=(2, 1), embed=6, hidden=5, epochs=1, seeds=2)


def reading(value: float, unit: str = "ms") -> Reading:
    """A latency that nobody measured."""
    return Reading(value=value, unit=unit, how="measured", interval=(0.99 * value, 1.01 * value))


@pytest.fixture(autouse=True)
def clockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes take 4, 2 and 4 ms in their order."""

    def runs(
        graphs: Mapping[str, Path], *_: object, continues: bool, tokens: int | None, **__: object
    ) -> dict[str, dict[str, Latency]]:
        metrics = ("latency", "latency@prompt", "latency@token") if continues else ("latency",)
        found = {}
        for name, ms in zip(graphs, (4.0, 2.0, 4.0), strict=True):
            one = Latency(reading(ms), reading(ms / 8, "x"), 1, 0, ms)
            found[name] = dict.fromkeys(metrics, one)
        return found

    monkeypatch.setattr("wb.jobs.sweep.job.measure_runs", runs)


@pytest.mark.usefixtures("unpaged")
def test_shapes_are_timed_and_trained_and_compared_seed_by_seed(stripes: Dataset, tmp_path: Path) -> None:
    record = begin(CONFIG, stripes, tmp_path / "a.html", silent, force=False)()
    deepest, wide, large = record.shapes
    assert [(shape.arm, shape.depth) for shape in record.shapes] == [("heads", 2), ("heads", 1), ("size", 1)]
    assert [(trial.seed, trial.shape) for trial in record.trials] == [
        (seed, shape.name) for seed in (0, 1) for shape in record.shapes
    ], "seed by seed, so that what is there when it is stopped compares"
    (timing,) = record.timings
    assert timing.faster[wide.name].value == pytest.approx(2.0)
    assert record.gain(deepest).value == 0
    for shape in (wide, large):
        own, other = ([one.value for one in record.tests(each)] for each in (shape, deepest))
        assert record.gain(shape).value == pytest.approx(np.mean(own) - np.mean(other))
    assert record.counted[wide.name]["size"].value < record.counted[deepest.name]["size"].value
    assert len({one.test.value for one in record.trials}) > 1, "they were trained, each by itself"
    said = result(record)
    assert f"At equal heads {wide.name} against {deepest.name}: 2.000x as fast; " in said
    assert f"At equal heads and size {large.name} against {deepest.name}: 1.000x as fast (no sure gain); 1.0" in said
    assert "3.1x" in said
    assert not any(remark.warn for remark in remarks(record))
    assert "2.000x" in str(table(record))


def test_one_seed_has_no_interval_and_that_is_said(stripes: Dataset, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"seeds": 1})
    record = begin(config, stripes, tmp_path / "a.html", silent, force=False)()
    assert record.quality_of(record.deepest).interval is None
    assert "(one seed)" in result(record)
    assert any(remark.warn and "--seeds 3" in remark.text for remark in remarks(record))


def test_an_interval_over_seeds_is_that_of_a_mean() -> None:
    values = [0.81, 0.84, 0.80, 0.86]
    found = over_seeds(values, "fraction")
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert found.interval == pytest.approx((low, high))
    assert spread(values) == pytest.approx(np.std(values, ddof=1))


def test_lengths_are_of_texts_that_fit(stripes: Dataset, tmp_path: Path) -> None:
    texts, out = load("listops", limit=40), tmp_path / "a.html"
    config = AspectConfig(heads=2, depths=(2, 1))
    with pytest.raises(BadOption, match="--lengths 33: texts of these data have 32 tokens at most"):
        begin(config.model_copy(update={"lengths": (33,)}), texts, out, silent, force=False)
    with pytest.raises(BadOption, match="--lengths is of texts"):
        begin(config.model_copy(update={"lengths": (8,)}), stripes, out, silent, force=False)


def test_the_command_sweeps_decoders_too_and_its_page_is_written_again(tmp_path: Path) -> None:
    prose, out = tmp_path / "a.txt", tmp_path / "a.html"
    prose.write_text("a text, and another text. " * 60, encoding="utf-8")
    shapes = ("--heads", 2, "--depths", "2,1", "--embed", 8, "--hidden", 6, "--seeds", 1, "--epochs", 1)
    command = ("sweep", "aspect", "--data", f"lm,length=16:{prose}", *shapes, "-o", out)
    shown = succeeded(*command)
    assert shown.stdout.splitlines()[-1] == f"wrote {out}"
    assert "2.000x as fast by latency@prompt at 16 tokens" in shown.stdout.replace("\n", " ")
    record = AspectSweep.read(tmp_path / "a.json")
    assert record.quality == "ppl"
    assert [timing.metric for timing in record.timings] == ["latency@prompt", "latency@token"]
    page = out.read_text(encoding="utf-8")
    assert "Depth against heads" in page
    succeeded("report", tmp_path / "a.json", "-o", tmp_path / "b.html")
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == page
    again = wb(*command)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert json.loads(succeeded(*command, "--force", "--json").stdout)["kind"] == "aspect sweep"
    wrong = wb(*command[:-1], tmp_path / "a.onnx")
    assert "a.onnx is no name for a page; end it in .html" in wrong.stderr.replace("\n", " ")


class TestJob(JobSuite):
    """What all jobs owe."""

    ending = ".html"
    results = ()

    @pytest.fixture
    def begin(self, stripes: Dataset) -> Begin:
        """A sweep over two depths."""

        def begun(out: Path, progress: Any, *, other: bool = False, force: bool = False) -> Any:
            config = CONFIG.model_copy(update={"seed": 1}) if other else CONFIG
            return begin(config, stripes, out, progress, force=force)

        return begun
