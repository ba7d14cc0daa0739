"""A whole search from a model on the stripes, without a clock: what it leaves, and that an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.jobs.suite import Begin, JobSuite
from tests.networks import hybrid, random_model
from wb.core.commands.progress import Progress
from wb.core.errors import BadData, BadOption, BudgetMissed
from wb.data import Dataset
from wb.data.split import Images
from wb.export.assess import Assessor
from wb.export.graph import read_architecture
from wb.export.score import score
from wb.hardware.device import Device
from wb.models.counting import count_macs
from wb.models.model import Model, load
from wb.search.alternatives import choose
from wb.search.trained.begin import begin, place
from wb.search.trained.config import TrainedConfig
from wb.search.trained.estimate import estimate
from wb.search.trained.images import folder_of
from wb.search.trained.job import TrainedJob
from wb.search.trained.record import TrainedSearch
from wb.tasks.classes import CLASSES
from wb.training.refit.judged import Refit
from wb.training.refit.keep import Refitted
from wb.training.statistics import with_statistics

pytestmark = pytest.mark.usefixtures("untimed", "few")
CONFIG = TrainedConfig(data="stripes", budget=("macs=0.7x,0.5x",), calibration=64, alternatives=4, finetune=1)


def silent(*_: object) -> None:
    """Nobody listens."""


@pytest.fixture
def few() -> Iterator[None]:
    """Few random choices show how scores add up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "RANDOM", 4)
        yield


def job_of(
    model: Model, data: Dataset, out: Path, config: TrainedConfig = CONFIG, progress: Progress = silent
) -> TrainedJob:
    return begin(config, model, "m.safetensors", data, out, progress)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


@pytest.fixture
def whole(striped: Model, stripes: Dataset, folder: Path, untimed: None, few: None) -> TrainedSearch:
    """The record of a search that nothing interrupted; it is done once."""
    out = folder / "report.html"
    if not out.exists():
        job_of(striped, stripes, out)()
    return TrainedSearch.read(out.with_suffix(".json"))


def test_what_is_written_is_what_it_says(whole: TrainedSearch, striped: Model, stripes: Dataset, folder: Path) -> None:
    dense = count_macs(striped.architecture).value
    assert [result.name for result in whole.results] == ["macs-0.7x", "macs-0.5x"]
    for result, share in zip(whole.results, (0.7, 0.5), strict=True):
        model = load(folder / result.model)
        assert model.architecture == result.architecture == read_architecture(folder / result.graph)
        assert count_macs(model.architecture).value == result.after["macs"].value <= share * dense
        assert result.verdict == "met"
        for split, reading in ((stripes.validation, result.after["acc"]), (stripes.test, result.test)):
            assert score(folder / result.graph, split, CLASSES, Device()).value == reading.value
        assert [step.name for step in model.history] == ["train", "search --from", "finetune"]
        assert result.divergences["corrected"] <= result.divergences["as cut"] + 0.01
        assert result.after["acc"].value > whole.dense["acc"].value - 0.15
    assert len(whole.random) == 4
    assert whole.dense_final["acc"] == whole.dense["acc"]


def test_another_budget_has_the_library_already(
    whole: TrainedSearch, striped: Model, stripes: Dataset, tmp_path: Path
) -> None:
    """Nothing is fitted or scored, and what is chosen alike is the same."""
    heard: list[str] = []
    config = CONFIG.model_copy(update={"budget": ("macs=0.5x",)})
    job = job_of(striped, stripes, tmp_path / "report.html", config, lambda what, done, of: heard.append(what))
    assert "library" in [stage.name for stage in estimate(job)]
    found = job()
    assert not [what for what in heard if what.startswith(("fitting", "scoring"))]
    assert found.made == whole.made[1:]


def test_a_front_goes_down_to_its_end(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = TrainedConfig(data="stripes", budget=("macs=0.4x",), front=3, calibration=64, alternatives=5, finetune=0)
    found = job_of(striped, stripes, tmp_path / "report.html", config)()
    assert len(found.results) == 3
    macs = [result.after["macs"].value for result in found.results]
    assert macs == sorted(macs, reverse=True)
    measured = [one.measured for one in found.made]
    assert measured == sorted(measured)
    assert any(result.on_front for result in found.results)
    again = TrainedJob(found.model_copy(update={"ladder": (0.9, 0.6)}), tmp_path / "x.html", silent, striped, stripes)
    assert [limit.value for (limit,) in again.points()] == [0.9, 0.6], "what was timed may have changed since"


def test_latency_lands_on_what_is_measured(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = TrainedConfig(data="stripes", budget=("latency=0.8x",), calibration=64, alternatives=4, finetune=0)
    found = job_of(striped, stripes, tmp_path / "report.html", config)()
    (result,) = found.results
    assert result.verdict == "met"
    assert 0.6 < result.after["latency"].value / found.dense_final["latency"].value <= 0.8


def test_a_size_is_kept_though_the_correction_is_not(
    striped: Model, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lands has the history that it will have: a longer one where the correction is not kept."""
    read: list[float] = []

    def assessed(self: Assessor, models: Mapping[str, Model], *given: Any, **more: Any) -> Any:
        found = assess(self, models, *given, **more)
        if "pruned" in models:
            read.append(found["pruned"]["size"].value)
        return found

    assess = Assessor.__call__
    monkeypatch.setattr(Assessor, "__call__", assessed)
    lost = Refit(images=1, cut=0, refitted=None)
    monkeypatch.setattr("wb.search.trained.job.refitted", lambda cut, *_, **__: Refitted(cut, lost))
    config = TrainedConfig(data="stripes", budget=("size=0.8x",), calibration=64, alternatives=4, finetune=0)
    (result,) = job_of(striped, stripes, tmp_path / "report.html", config)().results
    assert result.verdict == "met"
    assert result.after["size"].value in read


def test_stages_of_maps_and_of_tokens(tmp_path: Path) -> None:
    """Batch norms of what is chosen have the statistics of what they see."""
    a, rng = hybrid(), np.random.default_rng(0)
    split = Images(rng.random((96, 2, 8, 8), dtype=np.float32), rng.integers(3, size=96))
    noise = Dataset("noise", "noise", split, split, split, ("a", "b", "c"), "2")
    model = with_statistics(random_model(a, gain=1.0), split)
    config = TrainedConfig(data="noise", budget=("macs=0.8x",), calibration=64, alternatives=5, finetune=0)
    record = job_of(model, noise, tmp_path / "report.html", config)()
    (made,), (result,) = record.made, record.results
    assert result.verdict == "met"
    # 77 images without anything in common tell nothing of 19 others: what was corrected is not kept, and that is said.
    assert made.refit is not None
    assert (made.refit.images, made.refit.kept) == (19, False)
    assert result.divergences["corrected"] == result.divergences["as cut"]
    assert any("correction did not help" in remark.text for remark in record.remarks)
    assert load(tmp_path / result.model).history[-1].arguments["corrected"] is False


def test_what_fine_tuning_ruins_is_not_published(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"budget": ("macs=0.5x",), "learning_rate": 3.0})
    record = job_of(striped, stripes, tmp_path / "report.html", config)()
    (result,) = record.results
    assert result.discarded["acc"].value < result.before["acc"].value == result.after["acc"].value
    assert [step.name for step in load(tmp_path / result.model).history] == ["train", "search --from"]
    assert [remark for remark in record.remarks if "the network is that from before it" in remark.text]
    assert "the network is that from before it" in (tmp_path / "report.html").read_text()


def test_what_cannot_be(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    def asked(budget: str, seed: int = 0) -> TrainedSearch:
        config = CONFIG.model_copy(update={"budget": (budget,), "seed": seed})
        return job_of(striped, stripes, tmp_path / "report.html", config)()

    with pytest.raises(BadOption, match="met already"):
        asked("macs=2x")
    for budget in "macs=0.01x", "latency=0.01x":  # before there is a library, as what ends there costs is known
        with pytest.raises(BudgetMissed, match=rf"the least there is: .*--budget {budget[:4]}\w*=0\.\d+x"):
            asked(budget, seed=5)
    assert not folder_of(striped, stripes, CONFIG.model_copy(update={"seed": 5})).exists()
    assert not (tmp_path / "report.partial").exists(), "nothing is left of it"
    few = Dataset(
        "few", "few", stripes.train.take(slice(0, 12)), stripes.validation, stripes.test, stripes.classes, "1"
    )
    with pytest.raises(BadData, match="12 training images"):
        job_of(striped, few, tmp_path / "report.html")()


def test_folders_with_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadOption, match="not empty"):
        place(tmp_path, [])
    assert place(tmp_path / "new", []) == tmp_path / "new" / "report.html"


class TestSuite(JobSuite):
    """What every job owes its user."""

    ending = ".html"
    results = (".onnx", ".onnx", ".safetensors", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset) -> Begin:
        """Begins one with two networks."""

        def begun(out: Path, progress: Progress, *, other: bool = False, force: bool = False) -> TrainedJob:
            config = CONFIG.model_copy(update={"seed": 1}) if other else CONFIG
            job = begin(config, striped, "m.safetensors", stripes, out, progress)
            job.force = force
            return job

        return begun
