"""Pruning a network in other precisions: they stay what they are, and what is reported is read off the lowered file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx
import pytest

from wb.compress.nvit.settings import Settings
from wb.compress.prune.begin import begin
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.record import Pruning
from wb.core.architecture import Architecture
from wb.core.precision import precisions, with_precisions
from wb.core.records import Precision
from wb.data import Dataset
from wb.export.graph import export
from wb.export.score import score
from wb.hardware.device import Device
from wb.models.counting import count_macs
from wb.models.model import Model, load
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import train

pytestmark = pytest.mark.usefixtures("untimed", "unpaged")
POLICY: dict[str, Precision] = {
    "stem": "int8",
    "s0.b0.mixer.in": "int8",
    "s0.b0.mixer.out": "int4",
    "s0.b0.ffn.in": "w1",
    "s0.b0.ffn.out": "w2",
    "s0.b1.mixer.in": "w2",
    "s0.b1.ffn.in": "int8",
    "head": "int8",
}


@pytest.fixture(scope="module")
def low(small: Architecture, stripes: Dataset) -> Model:
    """A model of all precisions that knows the stripes, one and two bits trained."""
    return train(with_precisions(small, POLICY), stripes, Recipe(epochs=15, learning_rate=1e-2))


@pytest.mark.parametrize("method", ["nvit", "depth"])
def test_precisions_outlive_pruning(
    low: Model, stripes: Dataset, tmp_path: Path, method: Literal["nvit", "depth"]
) -> None:
    settings = Settings(rounds=3, recovery=1, calibration=32, momentum=0.5)
    config = PruneConfig(method=method, data="stripes", budget=("macs=0.6x",), settings=settings, finetune=2)
    begin(config, low, "m.safetensors", stripes, tmp_path / "a.safetensors", lambda *_: None, force=False)()
    model = load(tmp_path / "a.safetensors")
    assert count_macs(model.architecture).value <= 0.6 * count_macs(low.architecture).value
    before = precisions(low.architecture)
    after = precisions(model.architecture)
    assert after == {group: before[group] for group in after}
    record = Pruning.read(tmp_path / "a.json")
    told = model.history[-1].model_copy(update={"readings": {}})
    bare = Model(model.architecture, model.weights, (*model.history[:-1], told))
    export(bare, tmp_path / "again.onnx")
    assert {node.op_type for node in onnx.load(tmp_path / "again.onnx").graph.node} & {"MatMulInteger", "ConvInteger"}
    result = record.results[0]
    assert result.after["size"].value == (tmp_path / "again.onnx").stat().st_size
    split = stripes.validation
    read_again = score(tmp_path / "again.onnx", split, CLASSES, Device())
    assert result.after["acc"].value == read_again.value > 0.8
