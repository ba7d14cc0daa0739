"""A whole pruning on the stripes, without a clock: what it leaves, and that an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from tests.jobs.suite import Begin, JobSuite
from wb.compress.depth.drop import removed
from wb.compress.nvit import compensate
from wb.compress.nvit.cost import parameters_by_part
from wb.compress.nvit.nvit import Pruned
from wb.compress.nvit.settings import Settings
from wb.compress.prune.begin import begin
from wb.compress.prune.config import Cut, PruneConfig
from wb.compress.prune.job import LOST, PruneJob
from wb.compress.prune.landing import Aims, Landing
from wb.compress.prune.record import Pruning
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BudgetMissed
from wb.data import Dataset
from wb.export.graph import export, read_architecture
from wb.export.score import score
from wb.hardware.device import Device
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, load
from wb.tasks.classes import CLASSES

pytestmark = pytest.mark.usefixtures("untimed")
SETTINGS = Settings(rounds=4, recovery=1, calibration=32, momentum=0.5)
CONFIG = PruneConfig(data="stripes", budget=("macs=0.4x",), snapshots=(0.75,), settings=SETTINGS, finetune=2)
Where = Callable[[str, int], bool]  # what is done, how much of it


@dataclass
class Tale:
    """Hears what a job reports, and stops it where it is told to."""

    stop: Where = lambda what, done: False
    heard: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, what: str, done: int, of: int) -> None:
        self.heard.append((what, done))
        if self.stop(what, done):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


def job_of(model: Model, data: Dataset, out: Path, config: PruneConfig = CONFIG, tale: Tale | None = None) -> PruneJob:
    return begin(config, model, "m.safetensors", data, out, tale or Tale(), force=False)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.fixture
def whole(trained: Model, stripes: Dataset, folder: Path, untimed: None) -> Pruning:
    """The record of a job that nothing interrupted; it is done once."""
    if not (folder / "whole.json").exists():
        job_of(trained, stripes, folder / "whole.safetensors")()
    return Pruning.read(folder / "whole.json")


def test_what_is_written_is_what_it_says(whole: Pruning, trained: Model, stripes: Dataset, folder: Path) -> None:
    graphs = {"whole.onnx", "whole-0.75x.onnx"}
    assert {"whole.safetensors", "whole-0.75x.safetensors", "whole.json", *graphs} <= files(folder)
    assert not (folder / "whole.partial").exists()
    dense = count_macs(trained.architecture).value
    assert whole.dense["macs"].value == dense
    assert [result.name for result in whole.results] == ["0.75x", "whole"]
    for result, share in zip(whole.results, (0.75, 0.4), strict=True):
        model = load(folder / result.model)
        assert model.architecture == result.architecture
        assert count_macs(model.architecture).value == result.after["macs"].value <= share * dense
        assert result.after["macs"].value > 0.9 * share * dense
        assert result.after["params"].value == count_parameters(model.architecture).value
        assert result.verdict == "met"
        assert result.graph is not None, "the graph that was read lies beside the model"
        assert result.after["size"].value == (folder / result.graph).stat().st_size
        assert score(folder / result.graph, stripes.test, CLASSES, Device()) == result.test
        assert read_architecture(folder / result.graph) == model.architecture
        told = model.history[-1].model_copy(update={"readings": {}})  # the graph carries the history
        export(replace(model, history=(*model.history[:-1], told)), folder / "again.onnx", force=True)
        for split, reading in ((stripes.validation, result.after["acc"]), (stripes.test, result.test)):
            assert score(folder / "again.onnx", split, CLASSES, Device()).value == reading.value
        assert result.after["size"].value == (folder / "again.onnx").stat().st_size
        stages = 1 if result.name == "0.75x" else 2
        assert [step.name for step in model.history] == ["train", *["prune nvit"] * stages, "finetune"]
        assert model.history[-1].readings["macs"] == result.after["macs"]
        assert model.history[-2].arguments["dropped"] == removed(trained.architecture, model.architecture)
        assert result.parts == parameters_by_part(result.architecture)
    assert whole.parts == parameters_by_part(trained.architecture)
    assert whole.dense_final["acc"] == whole.dense["acc"]
    assert whole.dense_test is not None
    assert whole.results[1].after["acc"].value > 0.9, "fine-tuned"


def test_the_record_tells_the_way(whole: Pruning, trained: Model) -> None:
    assert [round_.stage for round_ in whole.rounds] == [0, 1, 1, 1]
    macs = [whole.dense["macs"].value, *(round_.readings["macs"].value for round_ in whole.rounds)]
    assert macs == sorted(macs, reverse=True)
    for round_ in whole.rounds:
        assert round_.readings["macs"].value == count_macs(round_.architecture).value
        assert round_.predicted["macs"] == pytest.approx(round_.readings["macs"].value), "this operator's are exact"
    assert [round_.architecture for round_ in (whole.rounds[0], whole.rounds[3])] == [
        result.architecture for result in whole.results
    ]
    assert whole.model_key == trained.fingerprint()
    assert {"s0.embed", "s0.b1.mlp", "s0.b0.qk"} <= whole.spectrum.keys()
    assert all(list(values) == sorted(values, reverse=True) for values in whole.spectrum.values())


INTERRUPTIONS: tuple[Where, ...] = (
    lambda what, done: what.startswith("pruning"),  # before the first round
    lambda what, done: what == "pruning" and done == 1,  # between the stages
    lambda what, done: what == "pruning" and done == 2,  # between two rounds of the second stage
    lambda what, done: what.startswith("fine-tuning 0.75x, loss") and done == 1,
    lambda what, done: what == "fine-tuning",  # between two trainings
    lambda what, done: what == "final readings",
)
BETWEEN_THE_STAGES = INTERRUPTIONS[1]


def test_interruptions_change_nothing(
    whole: Pruning, trained: Model, stripes: Dataset, folder: Path, tmp_path: Path
) -> None:
    """One pruning that is stopped again and again ends in the same models, and nothing is done twice."""
    out = tmp_path / "whole.safetensors"
    rounds: list[int] = []
    for stop in INTERRUPTIONS:
        tale = Tale(stop)
        with pytest.raises(KeyboardInterrupt):
            job_of(trained, stripes, out, tale=tale)()
        rounds += [done for what, done in tale.heard[:-1] if what.startswith("pruning")]
        assert files(tmp_path) & {"whole.safetensors", "whole.json", "whole-0.75x.safetensors"} == set()
    last = Tale()
    record = job_of(trained, stripes, out, tale=last)()
    assert {what for what, _ in last.heard} == {"final readings"}
    assert rounds == [0, 1, 2, 3]
    assert [round_.architecture for round_ in record.rounds] == [round_.architecture for round_ in whole.rounds]
    for result in whole.results:
        assert load(tmp_path / result.model).fingerprint() == load(folder / result.model).fingerprint()
    assert not (tmp_path / "whole.partial").exists()


ONE_ROUND = CONFIG.model_copy(update={"finetune": 0, "settings": Settings(rounds=1, calibration=32)})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_errors_before_the_first_round_leave_nothing_later_ones_all(
    trained: Model, stripes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.safetensors"

    def fail(self: Landing, state: Pruned) -> tuple[Aims, Pruned]:
        if self.stage.name == stage:
            raise BudgetMissed("not on this machine")
        return landing(self, state)

    landing = Landing.__call__
    for stage, left in (("0.75x", 0), ("", 1)):
        with monkeypatch.context() as patch:
            patch.setattr("wb.compress.prune.job.Landing.__call__", fail)
            with pytest.raises(BudgetMissed, match="not on this machine"):
                job_of(trained, stripes, out, ONE_ROUND)()
        assert bool(files(tmp_path)) == bool(left), stage
    assert len(Pruning.read(tmp_path / "a.partial" / "record.json").rounds) == 1
    last = Tale()
    assert len(job_of(trained, stripes, out, ONE_ROUND, last)().results) == 2
    assert "pruning to 0.75x" not in {what for what, _ in last.heard}


def test_other_settings_do_not_continue(trained: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        job_of(trained, stripes, out, tale=Tale(BETWEEN_THE_STAGES))()
    before = {path: path.read_bytes() for path in (tmp_path / "a.partial").iterdir()}
    other = CONFIG.model_copy(update={"finetune": 3})
    changed = Model(trained.architecture, {**trained.weights, "head_bias": trained.weights["head_bias"] + 1})
    for model, config in ((trained, other), (changed, CONFIG)):
        with pytest.raises(BadArtefact, match=r"a\.partial belongs to a pruning with other settings"):
            job_of(model, stripes, out, config)()
    assert {path: path.read_bytes() for path in (tmp_path / "a.partial").iterdir()} == before
    (tmp_path / "a.partial" / "record.json").write_text("{")
    with pytest.raises(BadArtefact, match=r"record\.json is damaged"):
        job_of(trained, stripes, out)()


@pytest.mark.parametrize("method", ["nvit", "depth"])
def test_what_fine_tuning_ruins_is_not_published(striped: Model, stripes: Dataset, tmp_path: Path, method: Cut) -> None:
    settings = Settings(rounds=1, calibration=32)
    config = PruneConfig(method=method, data="stripes", budget=("macs=0.6x",), settings=settings, finetune=1)
    record = job_of(striped, stripes, tmp_path / "a.safetensors", config.model_copy(update={"learning_rate": 3.0}))()
    (result,) = record.results
    assert result.discarded["acc"].value < result.before["acc"].value == result.after["acc"].value
    assert "finetune" not in [step.name for step in load(tmp_path / "a.safetensors").history]
    assert [remark.warn for remark in record.remarks if "the network is that from before it" in remark.text] == [False]
    assert "the network is that from before it" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize("method", ["nvit", "depth"])
def test_what_refitting_ruins_stays_as_it_was_cut(
    striped: Model, stripes: Dataset, tmp_path: Path, method: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruined(model: Model, *_: object, **__: object) -> Model:
        return replace(model, weights={name: 0 * weight for name, weight in model.weights.items()})

    settings = Settings(rounds=1, calibration=32)
    config = PruneConfig(method=method, data="stripes", budget=("macs=0.6x",), settings=settings, finetune=0)
    without = config.model_copy(update={"settings": settings.model_copy(update={"compensate": False})})
    monkeypatch.setattr(compensate, "compensated", ruined)
    record = job_of(striped, stripes, tmp_path / "a.safetensors", config)()
    job_of(striped, stripes, tmp_path / "b.safetensors", without)()
    a, b = (load(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert all(torch.equal(weight, b.weights[name]) for name, weight in a.weights.items())
    assert a.history[-1].arguments == b.history[-1].arguments, "nothing that did not happen is in the history"
    (refit,) = record.refits.values()
    assert not refit.kept
    assert any("refitting what is left did not help" in remark.text for remark in record.remarks)
    assert "the weights stay as they were cut" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize("method", ["nvit", "depth"])
def test_landings_leave_room_for_the_longer_history(
    striped: Model, stripes: Dataset, tmp_path: Path, method: Cut
) -> None:
    """Whether a refit is kept, which the history says, is known only once a model has landed on its size."""
    config = PruneConfig(method=method, data="stripes", budget=("size=0.6x",), settings=SETTINGS, finetune=0)
    job = job_of(striped, stripes, tmp_path / "a.safetensors", config)
    (stage,) = job.stages

    def length(model: Model) -> int:
        return sum(len(step.model_dump_json()) for step in model.history)

    kept, lost = (length(job._cutter.signed(Pruned(striped, refit=refit), stage)) for refit in (None, LOST))
    assert kept != lost
    assert length(job._landing(stage).finished(striped)) == max(kept, lost)


def test_a_budget_out_of_reach_leaves_no_model(trained: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"budget": ("macs=2",), "snapshots": (), "finetune": 0})
    with pytest.raises(BudgetMissed, match=r"macs <= 2 cannot be reached"):
        job_of(trained, stripes, tmp_path / "a.safetensors", config)()
    assert files(tmp_path) == set()


class TestUnits(JobSuite):
    """`wb prune nvit`, with a model on the way."""

    ending = ".safetensors"
    results = (".onnx", ".onnx", ".safetensors", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset, untimed: None) -> Begin:
        settings = Settings(rounds=2, recovery=1, calibration=32)
        config = PruneConfig(data="stripes", budget=("macs=0.5x",), snapshots=(0.75,), settings=settings, finetune=1)
        return beginning(config, striped, stripes)


class TestLayers(JobSuite):
    """`wb prune depth`."""

    ending = ".pt"
    results = (".onnx", ".pt")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset, untimed: None) -> Begin:
        settings = Settings(rounds=1, calibration=32)
        config = PruneConfig(method="depth", data="stripes", budget=("macs=0.6x",), settings=settings, finetune=1)
        return beginning(config, striped, stripes)


def beginning(config: PruneConfig, model: Model, data: Dataset) -> Begin:
    """The job of a configuration, and that of another one."""

    def begun(out: Path, progress: Progress, *, other: bool = False, force: bool = False) -> PruneJob:
        chosen = config.model_copy(update={"finetune": 3}) if other else config
        return begin(chosen, model, "m", data, out, progress, force=force)

    return begun
