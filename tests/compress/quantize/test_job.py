"""A whole quantization on the stripes, without a clock: what it leaves, and that an interruption loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.compress.ptq.graphs import two_products
from tests.jobs.suite import Begin, JobSuite
from wb.compress.ptq.calibration import of_images
from wb.compress.ptq.subject import of_model
from wb.compress.quantize.begin import Given, begin
from wb.compress.quantize.config import QuantizeConfig
from wb.compress.quantize.job import QuantizeJob
from wb.compress.quantize.record import Quantization
from wb.compress.quantize.source import NO_KERNEL, SLOW_CONVOLUTION
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadData, BadOption, BudgetMissed, WbError
from wb.core.precision import precisions
from wb.core.specs import PIXELS
from wb.data import Dataset
from wb.data.split import Images
from wb.export.counting.count import model_energy
from wb.export.foreign.opening import read_metadata
from wb.export.graph import export, read_architecture
from wb.export.run import Runner
from wb.export.score import score
from wb.hardware.device import Device
from wb.jobs.frame.work import work_of
from wb.models.model import Model, load
from wb.tasks.classes import CLASSES

pytestmark = pytest.mark.usefixtures("by_size", "unpaged")
Where = Callable[[str, int], bool]  # what is done, how much of it


@dataclass
class Tale:
    """Hears what a job reports, and stops it where it is told to."""

    stop: Where = lambda what, done: False
    heard: list[str] = field(default_factory=list)

    def __call__(self, what: str, done: int, of: int) -> None:
        self.heard.append(what)
        if self.stop(what, done):
            raise KeyboardInterrupt


def config_of(policy: str, **more: object) -> QuantizeConfig:
    return QuantizeConfig.model_validate({"policy": policy, "data": "stripes", "calib": 16, **more})


def job_of(
    model: Model, data: Dataset | None, out: Path, config: QuantizeConfig, tale: Tale | None = None
) -> QuantizeJob:
    return begin(config, Given("m.safetensors", model), data, out, tale or Tale(), force=False)


def foreign_job(path: Path, data: Dataset | None, out: Path, config: QuantizeConfig) -> QuantizeJob:
    return begin(config, Given(str(path), path=path), data, out, Tale(), force=False)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_products(tmp_path_factory.mktemp("foreign") / "f.onnx")


def check(record: Quantization, out: Path, data: Dataset) -> None:
    """Every number of the quantized graph, from the file alone."""
    assert Quantization.read(out.with_suffix(".json")) == record
    quantized = record.quantized
    assert quantized["size"].value == out.stat().st_size
    for name, split in (("acc", data.validation), ("test", data.test)):
        assert quantized[name] == score(out, split, CLASSES, Device())
    architecture = read_architecture(out)
    assert architecture == record.architecture
    assert architecture is not None
    assert quantized["energy"] == model_energy(architecture)
    assert quantized["energy"].value < record.floating["energy"].value or record.config.policy == "int4-weights"
    assert {g.name: g.precision for g in record.groups} == precisions(architecture)
    assert record.ratio is not None
    assert record.ratio.value == pytest.approx(quantized["size"].value / record.floating["size"].value)


@pytest.mark.parametrize("policy", ["int8-dynamic", "int4-weights"])
def test_graph_and_model_say_the_same(striped: Model, stripes: Dataset, tmp_path: Path, policy: str) -> None:
    out = tmp_path / "q.onnx"
    record = job_of(striped, stripes, out, config_of(policy))()
    assert files(tmp_path) == {"q.onnx", "q.safetensors", "q.json", "q.html"}
    check(record, out, stripes)
    again = load(tmp_path / "q.safetensors")
    export(again, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()
    assert again.history[:-1] == striped.history
    assert (again.history[-1].name, again.history[-1].arguments["policy"]) == ("quantize", policy)
    low = {"int8-dynamic": "int8", "int4-weights": "int4"}[policy]
    assert again.history[-1].arguments["groups"] == {low: 9, "fp32": 1}
    reasons = {group.name: group.reason for group in record.groups if group.reason}
    assert list(reasons) == ["stem"]
    assert reasons["stem"] == (SLOW_CONVOLUTION if low == "int8" else NO_KERNEL)
    block = 3 * 16 * 16 + 16 * 16 + 2 * 16 * 32
    assert sum(group.weights for group in record.groups) == 2 * 2 * 16 + 2 * block + 3 * 16


def test_the_output_error_is_that_of_the_files(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    record = job_of(striped, stripes, out, config_of("int8-dynamic"))()
    export(striped, tmp_path / "float.onnx")
    pixels = next(iter(of_images(of_model(striped).graph, stripes.validation, 256, 0).values()))
    before, after = (Runner(path, Device())({PIXELS: pixels}, batch=1) for path in (tmp_path / "float.onnx", out))
    assert record.error is not None
    assert record.error.n == len(stripes.validation)
    assert record.error.on == "validation images"
    noise = 10 * np.log10((before**2).sum() / ((after - before) ** 2).sum())
    assert record.error.sqnr == pytest.approx(noise, rel=1e-3)
    assert record.error.agreement == np.mean(before.argmax(1) == after.argmax(1))


def test_static_int8_is_a_graph_without_a_model(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    record = job_of(striped, stripes, out, config_of("int8", keep=("s0.b1.ffn", "head")))()
    assert files(tmp_path) == {"q.onnx", "q.json", "q.html"}
    check(record, out, stripes)
    assert record.model is None
    kept = {group.name: group.precision for group in record.groups if group.reason == "kept by --keep"}
    assert kept == {"s0.b1.ffn.in": "fp32", "s0.b1.ffn.out": "fp32", "head": "fp32"}
    step = json.loads(read_metadata(out)["wb.history"])[-1]
    assert step["arguments"]["activations"] == "static"
    assert step["arguments"]["calibration"]["inputs"] == 16
    assert json.loads(read_metadata(out)["wb.labels"]) == ["a", "b", "c"]
    assert not any(node.op_type == "DynamicQuantizeLinear" for node in onnx.load(out).graph.node)


def test_mixed_keeps_its_budget_and_shows_what_it_tried(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    record = job_of(striped, stripes, out, config_of("mixed", budget=("size=0.85x",), keep=("head",)))()
    check(record, out, stripes)
    assert record.quantized["size"].value <= 0.85 * record.floating["size"].value
    assert {one.group for one in record.sensitivities} == {g.name for g in record.groups} - {"head"}
    (chosen,) = [one for one in record.candidates if one.chosen]
    assert dict(chosen.choice) == {g.name: g.precision for g in record.groups if g.precision != "fp32"}
    # A candidate is counted with the longest metadata, so that the file is never larger.
    assert 0 <= chosen.readings["size"].value - record.quantized["size"].value < 600
    assert chosen.readings["acc"] == record.quantized["acc"]
    assert all(g.reason for g in record.groups if g.precision == "fp32")
    assert load(tmp_path / "q.safetensors").architecture == record.architecture


class Unread(Images):
    """A split that nobody may look at yet."""

    def pixels(self, rows: object = None) -> Any:
        raise AssertionError("the test split was read before the budget was decided")


@pytest.mark.parametrize(
    ("policy", "budget"),
    [("mixed", "size=0.05x"), ("int8-dynamic", "size=0.1x"), ("int4-weights", "latency=0.05x"), ("int8", "acc=1.0")],
)
def test_a_missed_budget_leaves_nothing(
    striped: Model, stripes: Dataset, tmp_path: Path, policy: str, budget: str
) -> None:
    out = tmp_path / "new" / "q.onnx"
    if policy == "int8":
        budget = "acc=1.0" if accuracy_of(striped, stripes) < 1 else "size=0.1x"
    unread = replace(stripes, test=Unread(stripes.test.images, stripes.test.labels))
    with pytest.raises(BudgetMissed, match=budget.split("=")[0]):
        job_of(striped, unread, out, config_of(policy, budget=(budget,)))()
    assert files(tmp_path) == set()


def accuracy_of(model: Model, data: Dataset) -> float:
    network = model.network()
    with torch.inference_mode():
        found = network(torch.from_numpy(data.validation.pixels())).argmax(1).numpy()
    return float((found == data.validation.labels).mean())


def test_an_interrupted_search_measures_only_the_rest(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    out, config = tmp_path / "q.onnx", config_of("mixed", budget=("size=0.8x",))
    tale = Tale(stop=lambda what, done: what.startswith("sensitivity") and done == 7)
    with pytest.raises(KeyboardInterrupt):
        job_of(striped, stripes, out, config, tale)()
    kept = Quantization.read(work_of(out) / "record.json").sensitivities
    assert len(kept) == 7
    assert files(tmp_path) == {"q.partial", "record.json", "lock"}
    for other, data in ((config_of("mixed", budget=("size=0.5x",)), stripes), (config_of("int8-dynamic"), stripes)):
        with pytest.raises(BadArtefact, match="other settings, another model or other data; delete it"):
            job_of(striped, data, out, other)
    whole = job_of(striped, stripes, tmp_path / "whole.onnx", config)()
    tale = Tale()
    record = job_of(striped, stripes, out, config, tale)()
    assert record.sensitivities[:7] == kept
    assert record.sensitivities == whole.sensitivities
    assert sum(what.startswith("sensitivity") for what in tale.heard) == len(whole.sensitivities) - 7
    assert record.groups == whole.groups
    assert out.read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    assert not work_of(out).exists()


def test_what_has_nothing_to_continue_begins_anew(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    tale = Tale(stop=lambda what, done: what == "final readings")
    with pytest.raises(KeyboardInterrupt):
        job_of(striped, stripes, out, config_of("int8-dynamic"), tale)()
    assert files(tmp_path) == set()
    # As kill -9 leaves it.
    killed = job_of(striped, stripes, out, config_of("int8-dynamic"))
    killed.work.mkdir()
    killed.record.write(killed.work / "record.json")
    assert job_of(striped, stripes, out, config_of("int4-weights"))().config.policy == "int4-weights"
    (tmp_path / "r.partial").mkdir()
    (tmp_path / "r.partial" / "mine.txt").touch()
    with pytest.raises(BadArtefact, match="no folder of an interrupted quantization"):
        job_of(striped, stripes, tmp_path / "r.onnx", config_of("int8-dynamic"))


def test_a_foreign_graph_on_random_inputs(foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    record = foreign_job(foreign, None, out, QuantizeConfig(data=None, calib=5, keep=("second",)))()
    assert files(tmp_path) == {"q.onnx", "q.json", "q.html"}
    assert record.quantized.keys() == {"size", "latency"}
    assert record.error is not None
    assert (record.error.on, record.error.n) == ("random inputs", 5)
    assert [(g.name, g.precision, g.weights) for g in record.groups] == [("first", "int8", 32), ("second", "fp32", 40)]
    metadata = read_metadata(out)
    assert metadata["whose"] == "another's"
    assert json.loads(metadata["wb.history"])[0]["name"] == "quantize"
    kinds = [node.op_type for node in onnx.load(out).graph.node]
    assert kinds.count("MatMulInteger") == 1
    assert kinds.count("MatMul") == 1


def test_a_foreign_graph_on_the_users_inputs(foreign: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "x.npy"
    np.save(inputs, np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    config = QuantizeConfig(policy="mixed", data=None, calibration=str(inputs), calib=12, budget=("size=0.999x",))
    with pytest.raises(WbError):  # two such small products only grow
        foreign_job(foreign, None, tmp_path / "q.onnx", config)()
    record = foreign_job(
        foreign, None, tmp_path / "q.onnx", config.model_copy(update={"policy": "int8", "budget": ()})
    )()
    assert record.error is not None
    assert (record.error.on, record.error.n) == ("inputs kept out", 8)
    assert record.calibration is not None
    assert (record.calibration["inputs"], record.calibration["kept_out"]) == (12, 8)
    plain = QuantizeConfig(data=None, calibration=str(inputs), calib=12)
    record = foreign_job(foreign, None, tmp_path / "p.onnx", plain)()
    assert record.error is not None
    assert (record.error.on, record.error.n) == ("given inputs", 12)  # nothing was fitted to them


def test_our_own_graph_as_a_foreign_one_is_scored(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "q.onnx"
    export(striped, path)
    record = foreign_job(path, stripes, out, config_of("int8-dynamic"))()
    assert record.quantized["acc"] == score(out, stripes.validation, CLASSES, Device())
    assert record.architecture is None
    assert read_architecture(out) is None  # it would say that all is in floating point
    history = [step["name"] for step in json.loads(read_metadata(out)["wb.history"])]
    assert history == [*(step.name for step in striped.history), "quantize"]


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (config_of("int8-dynamic", keep=("s0.b7",)), BadOption, "no group named s0.b7 to keep; there are stem"),
        (config_of("int8-dynamic", keep=("stem", "s0", "head")), BadOption, "nothing left to quantize"),
        (config_of("int8-dynamic", calibration="x.npy"), BadOption, "--calibration is of no use here"),
        (config_of("int4-weights", keep=("s0", "head")), BadOption, "no kernel for 4 bits; kept by --keep"),
        (config_of("mixed", budget=("size=2x",)), BadOption, "budget size=2x: the graph in floating point keeps"),
        (config_of("int8", calibration="none.npy"), BadArtefact, "there is no none.npy"),
    ],
)
def test_bad_requests(
    striped: Model, stripes: Dataset, tmp_path: Path, config: QuantizeConfig, error: type[WbError], words: str
) -> None:
    with pytest.raises(error, match=words):
        job_of(striped, stripes, tmp_path / "q.onnx", config)()
    assert files(tmp_path) == set()


def test_policies_that_lack_what_they_need(foreign: Path, stripes: Dataset, tmp_path: Path) -> None:
    for policy in ("int8", "mixed"):
        with pytest.raises(BadOption, match="has to see inputs: give --calibration"):
            foreign_job(foreign, None, tmp_path / "q.onnx", QuantizeConfig(policy=policy, data=None))
    np.save(tmp_path / "x.npy", np.ones((3, 4), np.float32))
    given = {"data": None, "calibration": str(tmp_path / "x.npy")}
    with pytest.raises(BadOption, match="--policy mixed without a --budget is about accuracy"):
        foreign_job(foreign, None, tmp_path / "q.onnx", QuantizeConfig.model_validate({**given, "policy": "mixed"}))
    with pytest.raises(BadOption, match=r"'acc=0\.9' is about accuracy"):
        foreign_job(
            foreign, None, tmp_path / "q.onnx", QuantizeConfig.model_validate({"data": None, "budget": ["acc=0.9"]})
        )
    with pytest.raises(BadData, match="do not fit"):
        foreign_job(foreign, stripes, tmp_path / "q.onnx", config_of("int8-dynamic"))


class TestDynamic(JobSuite):
    """`--policy int8-dynamic`, of which nothing is kept on the way."""

    ending = ".onnx"
    results = (".onnx", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset) -> Begin:
        return beginning(config_of("int8-dynamic"), striped, stripes)


class TestMixed(JobSuite):
    """`--policy mixed`, of few groups, as each is written down alone."""

    ending = ".onnx"
    results = (".onnx", ".safetensors")

    @pytest.fixture
    def begin(self, striped: Model, stripes: Dataset) -> Begin:
        keep = ("stem", "head", "s0.b1", "s0.b0.mixer")
        return beginning(config_of("mixed", calib=8, budget=("size=0.95x",), keep=keep), striped, stripes)


def beginning(config: QuantizeConfig, model: Model, data: Dataset) -> Begin:
    """The job of a configuration, and that of another one."""

    def begun(out: Path, progress: Progress, *, other: bool = False, force: bool = False) -> QuantizeJob:
        chosen = config.model_copy(update={"seed": 3}) if other else config
        return begin(chosen, Given("m", model), data, out, progress, force=force)

    return begun
