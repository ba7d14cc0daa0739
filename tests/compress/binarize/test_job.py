"""A whole binarization on the stripes, without a clock: what it leaves, and that an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import pytest

from tests.jobs.suite import Begin, JobSuite
from tests.networks import assembled
from wb.compress.binarize.begin import begin
from wb.compress.binarize.config import BinarizeConfig
from wb.compress.binarize.job import BinarizeJob
from wb.compress.binarize.record import Binarization
from wb.core.architecture import Block, Stage
from wb.core.commands.progress import Progress
from wb.core.errors import BadData, BadOption, WbError
from wb.core.precision import allowed, precisions, with_precisions
from wb.core.records import Hash, ImageInput, Mlp, PatchStem, Pool, Precision, Softmax
from wb.data import Dataset
from wb.export.counting.count import model_energy
from wb.export.graph import read_architecture
from wb.export.score import score
from wb.hardware.device import Device
from wb.models.model import Model, load
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import train

CONFIG = BinarizeConfig(
    data="stripes", attention="hash", bits=8, anchors=6, keep=("s0.b0.ffn.out",), finetune=2, learning_rate=5e-3
)
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


pytestmark = pytest.mark.usefixtures("untimed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job")


@pytest.fixture(scope="module")
def trained(image: ImageInput, stripes: Dataset) -> Model:
    """A model that knows the stripes."""
    block = Block(mixer=Softmax(heads=2, qk=6, v=5), ffn=Mlp(mlp=20))
    a = assembled(
        input=image,
        stem=PatchStem(patch=2),
        stages=(Stage(embed=12, blocks=(block, block)),),
        classes=3,
        labels=("a", "b", "c"),
    )
    return train(a, stripes, Recipe(epochs=12, learning_rate=1e-2))


def job_of(
    model: Model, data: Dataset, out: Path, config: BinarizeConfig = CONFIG, tale: Tale | None = None
) -> BinarizeJob:
    return begin(config, model, "m.safetensors", data, out, tale or Tale(), force=False)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.fixture
def whole(trained: Model, stripes: Dataset, folder: Path) -> Binarization:
    """The record of a job that nothing interrupted; it is done once."""
    if not (folder / "whole.json").exists():
        job_of(trained, stripes, folder / "whole.safetensors")()
    return Binarization.read(folder / "whole.json")


def test_what_is_written_is_what_it_says(whole: Binarization, trained: Model, stripes: Dataset, folder: Path) -> None:
    assert files(folder) == {f"whole.{ending}" for ending in ("safetensors", "onnx", "json", "html")}
    model, graph = load(folder / "whole.safetensors"), folder / "whole.onnx"
    assert [step.name for step in model.history] == ["train", "hash", "finetune", "low bits", "finetune"]
    assert [stage.name for stage in whole.stages] == ["hash", "w1"]
    assert model.architecture == whole.stages[1].architecture == read_architecture(graph)
    assert {type(block.mixer) for _, _, block in model.architecture.blocks()} == {Hash}
    kept = {group for group, precision in precisions(model.architecture).items() if precision == "fp32"}
    assert kept == {"stem", "head", "s0.b0.ffn.out"}
    after = whole.stages[1].after
    for split, reading in ((stripes.validation, after["acc"]), (stripes.test, whole.final_test)):
        assert score(graph, split, CLASSES, Device()) == reading
    assert after["size"].value == graph.stat().st_size
    assert model.history[-1].readings["acc"] == after["acc"]
    assert model.history[-1].readings["test"] == whole.final_test
    assert whole.original["acc"] == whole.first["acc"]
    assert whole.model_key == trained.fingerprint()


def test_the_graph_has_two_bits_where_the_network_has_one(whole: Binarization, folder: Path) -> None:
    products = [node for node in onnx.load(folder / "whole.onnx").graph.node if node.op_type == "MatMulNBits"]
    two = [attribute.i for node in products for attribute in node.attribute if attribute.name == "bits"]
    assert two == [2] * 9, "q and k in one, v, out, up and down of two blocks, but for one that is kept"


def test_energy_is_that_of_the_architectures_and_says_it_is_a_model(whole: Binarization) -> None:
    for stage, architecture in zip(whole.stages, (s.architecture for s in whole.stages), strict=True):
        assert stage.after["energy"] == model_energy(architecture)
        assert stage.after["energy"].how == "predicted"
        assert sum(stage.energy.values()) == pytest.approx(stage.after["energy"].value)
    assert whole.stages[1].after["energy"].value < whole.original["energy"].value


def test_fine_tuning_brings_back_what_rounding_took(whole: Binarization) -> None:
    binary = whole.stages[1]
    assert [epoch.number for epoch in binary.epochs] == [1, 2]
    assert binary.epochs[1].loss < binary.epochs[0].loss
    assert binary.before["acc"].value < binary.after["acc"].value


INTERRUPTIONS: tuple[Where, ...] = (
    lambda what, done: what == "hash, converting",
    lambda what, done: what == "hash, reading",
    lambda what, done: what.startswith("hash, fine-tuning, loss") and done == 1,
    lambda what, done: what == "w1, converting",
    lambda what, done: what == "w1, reading",
    lambda what, done: what.startswith("w1, fine-tuning, loss") and done == 2,
    lambda what, done: what == "final readings",
)


def test_interruptions_change_nothing(
    whole: Binarization, trained: Model, stripes: Dataset, folder: Path, tmp_path: Path
) -> None:
    """One binarization that is stopped again and again ends in the same model, and nothing is done twice."""
    out = tmp_path / "whole.safetensors"
    epochs: list[tuple[str, int]] = []
    for stop in INTERRUPTIONS:
        tale = Tale(stop)
        with pytest.raises(KeyboardInterrupt):
            job_of(trained, stripes, out, tale=tale)()
        epochs += [(what.split(",")[0], done) for what, done in tale.heard if "loss" in what]
        assert files(tmp_path) & {"whole.safetensors", "whole.onnx", "whole.json", "whole.html"} == set()
    last = Tale()
    record = job_of(trained, stripes, out, tale=last)()
    assert {what for what, _ in last.heard} == {"final readings"}
    # those that were done before are told of once more, at once
    assert epochs == [("hash", 1), ("hash", 1), ("hash", 2), ("w1", 1), ("w1", 2), ("w1", 2)]
    assert load(out).fingerprint() == load(folder / "whole.safetensors").fingerprint()
    assert [stage.before for stage in record.stages] == [stage.before for stage in whole.stages]
    assert record.final_test == whole.final_test
    assert not (tmp_path / "whole.partial").exists()


def test_ternary_weights_without_fine_tuning(trained: Model, stripes: Dataset, tmp_path: Path) -> None:
    config = BinarizeConfig(data="stripes", weights="w2", head=True, finetune=0)
    record = job_of(trained, stripes, tmp_path / "t.pt", config)()
    (stage,) = record.stages
    assert stage.name == "w2"
    assert stage.before["acc"] == stage.after["acc"]
    assert set(precisions(load(tmp_path / "t.pt").architecture).values()) == {"w2", "fp32"}
    assert precisions(load(tmp_path / "t.pt").architecture)["head"] == "w2"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"attention": "keep", "weights": "keep"}, BadOption, "there is nothing to do"),
        ({"keep": ("s0.b9",)}, BadOption, "no group named s0.b9"),
    ],
)
def test_options_that_do_not_fit_leave_nothing(
    trained: Model, stripes: Dataset, tmp_path: Path, changes: dict[str, object], error: type[WbError], words: str
) -> None:
    with pytest.raises(error, match=words):
        job_of(trained, stripes, tmp_path / "new" / "a.pt", CONFIG.model_copy(update=changes))
    assert files(tmp_path) == set()


def test_models_that_do_not_fit_leave_nothing(trained: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "a.pt"
    pooled = trained.architecture.with_blocks(lambda _, block: block.model_copy(update={"mixer": Pool()}))
    with pytest.raises(BadOption, match="no softmax attention to hash, its mixers are pool"):
        job_of(replace(trained, architecture=pooled), stripes, out)
    larger = replace(stripes, classes=("a", "b", "c", "d"))
    with pytest.raises(BadData, match="4 classes"):
        job_of(trained, larger, out)
    assert files(tmp_path) == set()


def test_an_error_at_the_first_step_leaves_nothing(trained: Model, stripes: Dataset, tmp_path: Path) -> None:
    many = CONFIG.model_copy(update={"anchors": 60000})
    with pytest.raises(BadOption, match="60000 anchors"):
        job_of(trained, stripes, tmp_path / "new" / "a.pt", many)()
    assert files(tmp_path) == set()


def test_a_model_in_eight_bits_is_taken_in_floating_point(trained: Model, stripes: Dataset, tmp_path: Path) -> None:
    groups: dict[str, Precision] = {
        group: "int8" for group, options in allowed(trained.architecture).items() if "int8" in options
    }
    quantized = replace(trained, architecture=with_precisions(trained.architecture, groups))
    job = job_of(quantized, stripes, tmp_path / "b.safetensors")
    assert job.record.architecture == trained.architecture
    assert job.model.weights is trained.weights


class TestBoth(JobSuite):
    """Hash attention, then binary weights."""

    ending = ".safetensors"
    results = (".onnx", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset) -> Begin:
        config = BinarizeConfig(data="stripes", attention="hash", bits=4, anchors=4, finetune=1)

        def begun(out: Path, progress: Progress, *, other: bool = False, force: bool = False) -> BinarizeJob:
            chosen = config.model_copy(update={"finetune": 3}) if other else config
            return begin(chosen, striped, "m", stripes, out, progress, force=force)

        return begun
