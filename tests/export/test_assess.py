"""Readings of whole models are those of their files, read one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.graph import export
from wb.export.score import score
from wb.hardware.device import Device
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, from_network
from wb.models.network import build
from wb.tasks.classes import CLASSES

pytestmark = pytest.mark.usefixtures("untimed")


def model(image: ImageInput, mlp: int) -> Model:
    stage = Stage(embed=8, blocks=(Block(ffn=Mlp(mlp=mlp)),))
    architecture = assembled(input=image, stem=PatchStem(patch=4), stages=(stage,), classes=3, labels=("a", "b", "c"))
    network = build(architecture)
    torch.manual_seed(0)
    network.reset()
    return from_network(architecture, network)


def test_each_model_gets_its_own_readings(image: ImageInput, stripes: Dataset, tmp_path: Path) -> None:
    models = {"small": model(image, 4), "large": model(image, 40)}
    told: list[tuple[int, int]] = []
    splits = {"acc": stripes.validation, "test": stripes.test}
    found = Assessor(Device())(models, splits, told=lambda *what: told.append(what))
    assert {of for _, of in told} == {len(split) for split in splits.values()}, "and says on how many examples"
    assert all(0 <= done < of for done, of in told)
    assert list(found) == ["small", "large"]
    for name, one in models.items():
        path = tmp_path / f"{name}.onnx"
        export(one, path)
        assert found[name]["macs"] == count_macs(one.architecture)
        assert found[name]["params"] == count_parameters(one.architecture)
        assert found[name]["size"].value == path.stat().st_size
        for split_name, split in (("acc", stripes.validation), ("test", stripes.test)):
            assert found[name][split_name] == score(path, split, CLASSES, Device())
    assert found["small"]["latency"].value < found["large"]["latency"].value


def test_no_clock_without_need(image: ImageInput) -> None:
    found = Assessor(Device())({"one": model(image, 4)}, timed=False)
    assert set(found["one"]) == {"energy", "macs", "params", "size"}
