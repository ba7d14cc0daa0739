"""Compensation: what stands for what, what stays, and that labels do not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.networks import assembled, random_model, wired
from wb.compress.depth.drop import without
from wb.compress.nvit import compensate
from wb.compress.nvit.compensate import compensated, lane_of, refitted
from wb.core.architecture import Architecture, Block, Stage
from wb.core.precision import with_precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Scale, Softmax
from wb.data import Dataset
from wb.data.split import Images
from wb.models.axes import Select
from wb.models.model import Model, remap_model

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
BLOCK = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=12))
A = assembled(
    input=IMAGE, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(BLOCK, BLOCK)),), labels=("a", "b", "c")
)


@pytest.fixture(scope="module")
def noise() -> Dataset:
    rng = np.random.default_rng(0)
    split = Images(rng.random((120, 2, 8, 8), dtype=np.float32), rng.integers(3, size=120))
    return Dataset("noise", "noise", split, split, split, ("a", "b", "c"), "0")


def error(model: Model, dense: Model, data: Dataset) -> float:
    """The mean square of what is missing in the logits, on the images that are looked at."""
    x = torch.from_numpy(data.train.images)
    with torch.no_grad():
        return float((model.network()(x) - dense.network()(x)).square().mean())


def cut(model: Model) -> tuple[Model, dict[str, Tensor]]:
    """Without some channels of the stream and some hidden units."""
    stream, units = torch.tensor([0, 1, 3, 4, 6, 7]), torch.arange(5)
    return remap_model(model, {"s0.embed": Select(stream), "s0.b0.mlp": Select(units)}), {"s0.embed": stream}


def scaled(per: str) -> Architecture:
    join = Scale.model_validate({"per": per, "init": 0.2})
    return A.with_blocks(lambda _, block: block.model_copy(update={"join": join}))


@pytest.mark.parametrize(
    "a", [A, *(wired(A, one) for one in ("post", "parallel", "averaged")), scaled("channel"), scaled("layer")]
)
def test_what_is_left_comes_nearer_and_keeps_its_scales(a: Architecture, noise: Dataset) -> None:
    dense = random_model(a, gain=1.0)
    pruned, kept = cut(dense)
    fitted = compensated(pruned, dense, kept, noise)
    assert fitted.architecture == pruned.architecture
    assert error(fitted, dense, noise) < 0.7 * error(pruned, dense, noise)
    changed = {name for name, weight in fitted.weights.items() if not torch.equal(weight, pruned.weights[name])}
    left = {name.rsplit(".", 1)[-1] for name in changed}
    assert left - {"position"} == {"wo", "bo", "down", "down_bias", "head", "head_bias"}
    again = compensated(pruned, dense, kept, noise)
    assert again.fingerprint() == fitted.fingerprint()


@pytest.mark.parametrize("a", [A, wired(A, "post"), wired(A, "parallel")])
def test_what_is_not_kept_is_computed_again(a: Architecture, noise: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = random_model(a, gain=1.0)
    pruned, kept = cut(dense)
    fitted = compensated(pruned, dense, kept, noise)
    monkeypatch.setattr("wb.training.refit.correct.KEPT", 0)
    again = compensated(pruned, dense, kept, noise)
    for name, weight in fitted.weights.items():
        torch.testing.assert_close(again.weights[name], weight, rtol=1e-3, atol=1e-4)


def test_what_comes_nearer_on_other_images_is_kept(noise: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = random_model(A, gain=1.0)
    pruned, kept = cut(dense)
    found = refitted(pruned, dense, kept, noise)
    assert found.refit.cut is not None
    assert found.refit.refitted is not None
    assert found.refit.kept
    assert 0 < found.refit.refitted < found.refit.cut
    assert found.model.fingerprint() == compensated(pruned, dense, kept, noise, images=96).fingerprint()
    for worse in (50.0, float("nan")):
        ruined = replace(pruned, weights={**pruned.weights, "head": worse * pruned.weights["head"]})
        monkeypatch.setattr(compensate, "compensated", lambda *_, ruined=ruined, **__: ruined)
        again = refitted(pruned, dense, kept, noise)
        assert again.model is pruned
        assert again.refit.cut == found.refit.cut
        assert (again.refit.refitted is None) == (worse != 50)
    assert "not finite refitted: the weights stay as they were cut" in again.refit.text


def test_those_that_judge_are_not_fitted_to(noise: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    pixels, take = Images.pixels, Images.take

    def watched(self: Images, index: Any = slice(None)) -> Any:
        asked.append(np.asarray(index))
        return pixels(self, index)

    def watched_part(self: Images, index: Any) -> Images:
        taken.append(np.asarray(index))
        return take(self, index)

    monkeypatch.setattr(Images, "pixels", watched)
    monkeypatch.setattr(Images, "take", watched_part)
    dense = random_model(A)
    pruned, kept = cut(dense)
    assert refitted(pruned, dense, kept, noise).refit.images == 24
    fitted, held = asked[0], taken[0]
    assert (len(fitted), len(held)) == (96, 24)
    assert not set(fitted) & set(held)


def test_labels_do_not_count(noise: Dataset) -> None:
    dense = random_model(A)
    pruned, kept = cut(dense)
    other = replace(noise, train=Images(noise.train.images, (noise.train.labels + 1) % 3))
    assert (
        compensated(pruned, dense, kept, other).fingerprint() == compensated(pruned, dense, kept, noise).fingerprint()
    )


@pytest.mark.parametrize("gone", ["s0.b0.mixer", "s0.b1.mixer", "s0.b1.ffn"])
@pytest.mark.parametrize("wiring", ["pre", "post", "averaged"])
def test_what_is_gone_is_made_up_for(gone: str, wiring: str, noise: Dataset) -> None:
    dense = random_model(wired(A, wiring), gain=1.0)
    dropped = without(dense, gone)
    assert error(compensated(dropped, dense, {}, noise), dense, noise) < 0.8 * error(dropped, dense, noise)


def test_a_sublayer_that_is_gone_runs_with_the_next() -> None:
    """Behind the last with that one, unless its norm comes in between."""
    before = ["s0.b0.mixer", "s0.b0.ffn", "s0.b1.mixer"]
    for wiring, group, end in (("pre", [*before, "s0.b1.ffn"], {}), ("post", before, {0: ["s0.b1.ffn"]})):
        dense = random_model(wired(A, wiring))
        lane = lane_of(dense, without(without(without(dense, "s0.b0.mixer"), "s0.b0.ffn"), "s0.b1.ffn"), {})
        assert (lane.groups, lane.ends) == ({"s0.b1.mixer": group}, end)


def test_weights_of_few_bits_stay(noise: Dataset) -> None:
    groups = {
        "s0.b0.mixer.out": "w1",
        "s0.b0.ffn.out": "w2",
        "s0.b1.ffn.out": "w2",
        "s0.b1.mixer.out": "w1",
        "head": "w1",
    }
    dense = Model(with_precisions(A, groups), random_model(A).weights)  # type: ignore[arg-type]
    pruned, kept = cut(dense)
    fitted = compensated(pruned, dense, kept, noise)
    for name, weight in pruned.weights.items():
        if name != "position":
            assert torch.equal(fitted.weights[name], weight), name
