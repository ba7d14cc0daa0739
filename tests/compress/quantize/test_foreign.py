"""Foreign graphs from start to end: what the error is read on, and what is said of products that stay as they are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.compress.ptq.graphs import branched, two_products
from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.static import Static
from wb.compress.ptq.subject import Subject
from wb.compress.quantize.begin import Given, begin
from wb.compress.quantize.config import PolicyName, QuantizeConfig
from wb.compress.quantize.estimate import estimate
from wb.compress.quantize.record import Quantization
from wb.compress.quantize.report import error_text, in_float
from wb.compress.quantize.verdict import verdict
from wb.core.errors import BadArtefact, BadOption
from wb.hardware.device import Device

pytestmark = pytest.mark.usefixtures("by_size", "unpaged")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return two_products(tmp_path / "foreign.onnx")


def quantized(path: Path, out: Path, config: QuantizeConfig) -> Quantization:
    return begin(config, Given(str(path), path=path), None, out, lambda *_: None, force=False)()


@pytest.mark.parametrize(("given", "used", "read"), [(1, 1, 1), (2, 1, 1), (40, 30, 10)])
def test_the_error_is_that_of_inputs_that_nothing_was_fitted_to(
    foreign: Path, tmp_path: Path, given: int, used: int, read: int
) -> None:
    """The figure is that of the kept out, from the file alone; of a single input it says that it was fitted to it."""
    path, out = tmp_path / "x.npy", tmp_path / "q.onnx"
    x = np.random.default_rng(0).normal(size=(given, 4)).astype(np.float32) * np.exp(np.linspace(-2, 2, given))[:, None]
    np.save(path, x.astype(np.float32))
    record = quantized(foreign, out, QuantizeConfig(policy="int8", data=None, calibration=str(path), seed=3))
    assert record.error is not None
    assert record.calibration is not None
    assert (record.calibration["inputs"], record.error.n) == (used, read)
    order = np.random.default_rng(3).permutation(given)
    inputs = {"x": x[order[-read:]].astype(np.float32)}
    error = compare(outputs(foreign, inputs, Device()), outputs(out, inputs, Device()))
    assert record.error.sqnr == pytest.approx(error.sqnr, rel=1e-3)
    assert ("fitted to" in error_text(record)) == ("fitted to" in verdict(record)) == (given == 1)
    assert any("with fewer than 32" in note for note in record.notes) == (used < 32)


def test_a_group_that_the_runtime_refuses_is_left_out(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(graph: onnx.ModelProto | Path, inputs: Inputs, device: Device) -> NDArray[np.float32]:
        nodes = graph.graph.node if isinstance(graph, onnx.ModelProto) else []
        if any(node.name == "second_quant" for node in nodes):
            raise BadArtefact("no kernel")
        return outputs(graph, inputs, device)

    monkeypatch.setattr("wb.compress.quantize.job.outputs", refuses)
    record = quantized(foreign, tmp_path / "q.onnx", QuantizeConfig(data=None))
    assert [(g.name, g.precision, g.reason) for g in record.groups] == [
        ("first", "int8", None),
        ("second", "fp32", "the runtime refuses it in fewer bits"),
    ]


@pytest.mark.parametrize("policy", ["int8-dynamic", "int4-weights"])
def test_a_dry_run_leaves_out_what_the_runtime_refuses(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: PolicyName
) -> None:
    def refuses(graph: onnx.ModelProto | Path, inputs: Inputs, device: Device) -> NDArray[np.float32]:
        read = graph if isinstance(graph, onnx.ModelProto) else onnx.load(graph)
        if any(node.name.startswith("second_") for node in read.graph.node):
            raise BadArtefact("no kernel")
        return outputs(graph, inputs, device)

    for module in ("job", "estimate"):
        monkeypatch.setattr(f"wb.compress.quantize.{module}.outputs", refuses)
    config = QuantizeConfig(policy=policy, data=None)
    job = begin(config, Given(str(foreign), path=foreign), None, tmp_path / "q.onnx", lambda *_: None, force=False)
    assert [stage.name for stage in estimate(job)] == ["network", "quantizing", "readings"]


def test_a_dry_run_says_how_many_inputs_would_be_used(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def static(subject: Subject, inputs: Inputs, kept: Collection[str]) -> Static:
        return Static(subject.graph, tuple(subject.groups), {})

    monkeypatch.setattr("wb.compress.quantize.estimate.static_int8", static)
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    config = QuantizeConfig(policy="int8", data=None, calibration=str(path))
    job = begin(config, Given(str(foreign), path=foreign), None, tmp_path / "q.onnx", lambda *_: None, force=False)
    (stage,) = [stage for stage in estimate(job) if stage.name == "quantizing"]
    assert stage.what == "int8, ranges found on 15 calibration inputs"


def test_what_no_policy_takes_is_in_the_record_with_its_reason(tmp_path: Path) -> None:
    """A product inside a branch is a group like others, one with its weights on the left has a reason, and both can be kept."""
    path = branched(tmp_path / "f.onnx")
    record = quantized(path, tmp_path / "q.onnx", QuantizeConfig(data=None))
    found = {group.name: (group.precision, group.reason, group.weights) for group in record.groups}
    assert found == {
        "left": ("fp32", "its weights are the left operand", 9),
        "inside": ("int8", None, 16),
        "other": ("int8", None, 16),
    }
    assert record.loose == 1
    assert (
        in_float(record)
        == "23.8 % of the weights stay in floating point (21.4 % in products, 2.4 % in biases, norms, tables and the like)"
    )
    kept = quantized(path, tmp_path / "k.onnx", QuantizeConfig(data=None, keep=("inside", "left")))
    assert [g.reason for g in kept.groups if g.precision == "fp32"] == ["kept by --keep"] * 2
    with pytest.raises(BadOption, match="nothing left to quantize"):
        quantized(path, tmp_path / "n.onnx", QuantizeConfig(data=None, keep=("inside", "left", "other")))


def test_only_whole_batches_are_looked_at(tmp_path: Path) -> None:
    """Of six wanted inputs a graph of four at a time takes four, and the record says so."""
    path, x = two_products(tmp_path / "f.onnx"), tmp_path / "x.npy"
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, path)
    np.save(x, np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    record = quantized(path, tmp_path / "q.onnx", QuantizeConfig(data=None, calibration=str(x), calib=6))
    assert record.error is not None
    assert record.calibration is not None
    assert record.calibration["inputs"] == record.error.n == 4
