from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadOption
from wb.core.records import ImageInput
from wb.core.specs import PIXELS
from wb.export.counting.graph import count_graph
from wb.export.foreign.opening import read_metadata
from wb.export.graph import ExportDiffers, Exporter, check_parity, export, export_module, read_architecture
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.models.counting import count_macs
from wb.models.model import Model, Step, from_network
from wb.models.network import build
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit


@pytest.fixture(scope="module")
def architecture(image: ImageInput) -> Architecture:
    return Vit(TINY, image, 3, ("one", "two", "three")).largest("softmax")


@pytest.fixture(scope="module")
def model(architecture: Architecture) -> Model:
    network = build(architecture)
    torch.manual_seed(0)
    network.reset()
    return from_network(architecture, network, (Step(name="train", seed=3),))


def test_the_file_carries_labels_architecture_and_history(model: Model, tmp_path: Path) -> None:
    export(model, tmp_path / "a.onnx")
    metadata = read_metadata(tmp_path / "a.onnx")
    assert json.loads(metadata["wb.labels"]) == ["one", "two", "three"]
    assert read_architecture(tmp_path / "a.onnx") == model.architecture
    assert json.loads(metadata["wb.history"])[0]["seed"] == 3
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"], "weights are inside"


def test_the_same_model_gives_the_same_bytes(model: Model, tmp_path: Path) -> None:
    """On which the other tests rely: they export a network once (`traced`)."""
    for name in ("a.onnx", "b.onnx"):
        export(model, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_both_exporters_and_an_old_opset_compute_the_same(model: Model, tmp_path: Path) -> None:
    export(model, tmp_path / "dynamo.onnx", exporter="dynamo")
    export(model, tmp_path / "old.onnx", opset=17)
    assert onnx.load(tmp_path / "old.onnx").opset_import[0].version == 17


def test_a_graph_that_computes_something_else_is_refused_and_not_written(model: Model, tmp_path: Path) -> None:
    export(model, tmp_path / "a.onnx")
    other = build(model.architecture).eval()
    torch.manual_seed(1)
    other.reset()
    with pytest.raises(ExportDiffers, match="differs from the model by"):
        check_parity(other, tmp_path / "a.onnx", {PIXELS: torch.rand(2, 1, 8, 8)}, Device())
    broken = Model(model.architecture, dict(model.weights) | {"head": torch.full_like(model.weights["head"], 1e38)})
    with pytest.raises(ExportDiffers):
        export(broken, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_nothing_is_overwritten_without_force(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("precious")
    with pytest.raises(BadOption, match="exists already"):
        export(model, tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07" * 50])
def test_what_is_no_graph_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    for reading in (read_metadata, count_graph):
        with pytest.raises(BadArtefact, match="is no ONNX graph"):
            reading(tmp_path / "a.onnx")
    with pytest.raises(BadArtefact, match="there is no file"):
        read_metadata(tmp_path / "none.onnx")


@pytest.mark.parametrize("kind", ["softmax", "sla", "cosformer", "lmu", "pool", "none"])
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_counting_the_graph_agrees_with_counting_the_architecture(
    image: ImageInput, tmp_path: Path, kind: str, exporter: str
) -> None:
    if exporter == "dynamo" and kind != "softmax":
        pytest.skip("dynamo takes seconds; one kind is enough")
    architecture = Vit(TINY, image, 3).largest(kind)
    network = build(architecture)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.1)  # exporters store equal tensors once
    export(from_network(architecture, network), tmp_path / "a.onnx", exporter=exporter)  # type: ignore[arg-type]
    found = count_graph(tmp_path / "a.onnx").readings
    assert found["macs"].value == count_macs(architecture).value
    trainable = sum(weight.numel() for weight in network.parameters())
    assert found["params"].value >= trainable  # constants of operators are in the file too
    assert found["params"].value <= 1.2 * trainable + 1000


def test_any_module_of_one_tensor_exports(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    feed = {"x": torch.rand(2, 3, 4)}
    export_module(module, feed, tmp_path / "a.onnx", "y")
    assert check_parity(module, tmp_path / "a.onnx", feed, Device()).value < 1e-5
    assert count_graph(tmp_path / "a.onnx").readings["macs"].value == 24


class Constant(torch.nn.Module):
    """Gives 1000 and another number."""

    def __init__(self, other: float) -> None:
        super().__init__()
        self.given = torch.tensor([1000.0, other])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.given


def test_small_logits_are_as_inexact_as_the_largest(tmp_path: Path) -> None:
    path, feed = tmp_path / "a.onnx", {"x": torch.ones(2, 1)}
    export_module(Constant(0.0), feed, path, "y")
    assert check_parity(Constant(0.005), path, feed, Device()).value == pytest.approx(5e-6, rel=1e-3)
    with pytest.raises(ExportDiffers, match=r"by 0\.0005"):
        check_parity(Constant(0.5), path, feed, Device())


class Difference(torch.nn.Module):
    def forward(self, minuend: torch.Tensor, subtrahend: torch.Tensor) -> torch.Tensor:
        return minuend - 2 * subtrahend


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_module_of_two_tensors_takes_them_by_their_names(tmp_path: Path, exporter: Exporter) -> None:
    path, feed = tmp_path / "a.onnx", {"a": torch.rand(3, 4), "b": torch.rand(3, 4)}
    export_module(Difference(), feed, path, "y", exporter=exporter)
    assert check_parity(Difference(), path, feed, Device()).value < 1e-6
    a, b = feed["a"].numpy(), feed["b"].numpy()
    np.testing.assert_allclose(Runner(path, Device())({"b": b[:2], "a": a[:2]}), a[:2] - 2 * b[:2], atol=1e-6)
