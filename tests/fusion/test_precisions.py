"""Fusing networks in other precisions: the weights before rounding are fused, the result has the reference's precisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.precision import allowed, in_floating_point, with_precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Precision, Softmax
from wb.data import Dataset
from wb.export.graph import export
from wb.export.score import score
from wb.fusion.fuse import fuse
from wb.fusion.job.begin import begin
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.record import Fusion
from wb.fusion.settings import Settings
from wb.hardware.device import Device
from wb.models.model import Model, load, save
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import train

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

SMALL = assembled(
    input=ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,)),
    stem=PatchStem(patch=2),
    stages=(Stage(embed=12, blocks=(Block(mixer=Softmax(heads=2, qk=6, v=5), ffn=Mlp(mlp=20)),) * 2),),
    classes=3,
    labels=("a", "b", "c"),
)


def in_(a: Architecture, precision: Precision) -> Architecture:
    """As many groups of `a` as may be in that precision."""
    return with_precisions(a, {group: precision for group, options in allowed(a).items() if precision in options})


def kept(model: Model, precision: Precision) -> Model:
    return Model(in_(model.architecture, precision), model.weights, model.history)


@pytest.mark.parametrize("method", ["vanilla", "orth", "perm", "regress"])
@pytest.mark.parametrize("precision", ["int8", "w2"])
def test_precisions_change_nothing_but_the_architecture(kit: Kit, method: str, precision: Precision) -> None:
    """Whatever the parents are kept in, the fused weights are the same; the anchor says what the result is kept in."""
    one, two = kit.model(seed=0), kit.model(seed=1)
    settings = Settings.model_validate({"method": method, "anchor": 2})
    images = kit.pictures() if settings.needs_images else None
    expected = fuse([one, two], "ab", settings, images)
    found = fuse([kept(one, "w1"), kept(two, precision)], "ab", settings, images)
    for low, whole in ((found.model, expected.model), (found.average, expected.average)):
        assert low.architecture == in_(two.architecture, precision)
        assert in_floating_point(low.architecture) == whole.architecture
        assert all(torch.equal(low.weights[name], weight) for name, weight in whole.weights.items())


def test_a_target_says_what_the_result_is_kept_in(kit: Kit) -> None:
    one, two = kit.model(seed=0), kit.model(seed=1)
    target = in_(kit.network(embed=(10,)), "w1")
    images = kit.pictures()
    found = fuse([kept(one, "int8"), two], "ab", Settings(), images, target=target, keep=True)
    assert found.model.architecture == target
    assert found.between(0.3).architecture == target
    expected = fuse([one, two], "ab", Settings(), images, target=in_floating_point(target))
    assert all(torch.equal(found.model.weights[name], weight) for name, weight in expected.model.weights.items())


def test_a_fusion_is_read_in_its_precision(tmp_path: Path, stripes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ternary anchor and a parent in int8: the result is ternary, and every reading is that of the lowered file."""
    monkeypatch.setattr("wb.fusion.job.report.page", lambda *_: "a page")
    files = []
    for name, seed, precision in (("a", 0, "w2"), ("b", 1, "int8")):
        model = train(in_(SMALL, precision), stripes, Recipe(epochs=12, learning_rate=1e-2), seed=seed)  # type: ignore[arg-type]
        save(model, tmp_path / f"{name}.safetensors")
        files.append((name, tmp_path / f"{name}.safetensors"))
    config = FuseConfig(data="stripes", settings=Settings(method="regress"), calib=64, finetune=16)
    begin(config, files, stripes, tmp_path / "x.safetensors", lambda *_: None, force=False)()
    record, model = Fusion.read(tmp_path / "x.json"), load(tmp_path / "x.safetensors")
    assert model.architecture == record.architecture == in_(SMALL, "w2")
    split = stripes.validation
    for one, readings in (
        (model, record.tuned),
        *((load(path), p.readings) for (_, path), p in zip(files, record.parents, strict=True)),
    ):
        export(one, tmp_path / "x.onnx", force=True)
        assert readings["size"].value == (tmp_path / "x.onnx").stat().st_size
        assert readings["acc"] == score(tmp_path / "x.onnx", split, CLASSES, Device())
    assert record.tuned["acc"].value > 0.8
