"""Other mixers in the place of mixers: which may be, what they begin with, and that they are taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from wb.compress.convert.mixers import like, started
from wb.compress.convert.record import Layer
from wb.compress.convert.teach import OtherMixers, tried
from wb.core.errors import BadArtefact, BadOption
from wb.core.records import Cosformer, Lmu, Mixer, Pool, Softmax
from wb.core.records.attention import Linear
from wb.data import Dataset
from wb.models.model import Model
from wb.models.network import skeleton
from wb.models.passes.base import apply
from wb.spaces.operators import OFFERED


def mixer_of(a: Model, place: str) -> object:
    return next(block.mixer for name, _, block in a.architecture.blocks() if name == place)


def told(model: Model) -> list[Layer]:
    return [Layer.model_validate(one) for one in cast(list[Any], model.history[-1].arguments["layers"])]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("cosformer", {}, Cosformer(heads=2, qk=8, v=8)),
        ("linear", {"qk": "4"}, Linear(heads=2, qk=4, v=8)),
        ("pool", {}, Pool()),
        ("lmu", {"memory": "4", "hidden": 6}, Lmu(memory=4, hidden=6)),
        ("softmax", {"heads": 1}, Softmax(heads=1, qk=8, v=8)),
        ("softmax", {}, "is what is there"),
        ("softmax", {"heads": 2}, "is what is there"),
        ("lmu", {"memory": 4}, "has no hidden, which what is there does not say"),
        ("depthwise", {}, None),
        ("pool", {"kernel": "nine"}, "cannot be so (kernel"),
        ("window", {"window": 99}, "cannot be so (window"),
    ],
)
def test_it_has_what_is_there_and_what_is_given(
    striped: Model, kind: str, given: dict[str, Any], expected: Mixer | str | None
) -> None:
    if expected is None:
        assert kind not in OFFERED, "mixers of maps are not offered for tokens"
        return
    found = like(skeleton(striped.architecture).at("s0.b0.mixer"), kind, given)
    if isinstance(expected, str) and isinstance(found, str):
        assert found.startswith(expected)
    else:
        assert found == expected


def test_it_begins_with_the_weights_that_both_have(striped: Model) -> None:
    at = striped.network().at("s0.b1.mixer")
    one, other = (started(at, Cosformer(heads=2, qk=8, v=8), seed) for seed in (0, 1))
    own = dict(at.operator.named_parameters())
    for name, weight in one.named_parameters():
        assert torch.equal(weight, own[name])
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    narrow = started(at, Linear(heads=2, qk=4, v=8), 0)
    assert torch.equal(narrow.get_parameter("wv"), own["wv"])
    assert narrow.get_parameter("wq").shape != own["wq"].shape


def test_each_is_taught_and_nothing_else_changes(striped: Model, stripes: Dataset) -> None:
    heard: list[str] = []
    step = OtherMixers(stripes, "cosformer", {}, ("s0.b1",), steps=150, report=heard.append)
    found = apply(step, striped)
    assert heard == ["s0.b1.mixer"]
    assert [type(mixer_of(found, place)) for place in ("s0.b0", "s0.b1")] == [Softmax, Cosformer]
    others = [name for name in striped.weights if not name.startswith("stages.0.1.mixer.")]
    assert all(torch.equal(found.weights[name], striped.weights[name]) for name in others)
    (layer,) = told(found)
    assert (layer.slot, layer.before, layer.after) == ("s0.b1.mixer", Softmax.title, Cosformer.title)
    assert layer.missed < 0.8 * layer.begun
    untaught = told(apply(replace(step, steps=0), striped))
    assert untaught[0].missed == untaught[0].begun == layer.begun
    assert apply(step, striped).fingerprint() == found.fingerprint()


def test_what_is_done_is_read_back(striped: Model, stripes: Dataset, tmp_path: Path) -> None:
    step = OtherMixers(stripes, "linear", steps=3, folder=tmp_path)
    found = apply(step, striped)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["s0.b0.mixer.safetensors", "s0.b1.mixer.safetensors"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.compress.convert.teach.distilled", None)  # nothing is taught again
        again = apply(step, striped)
    assert again.fingerprint() == found.fingerprint()
    assert told(again) == told(found)
    (tmp_path / files[0]).write_bytes(b"half")
    with pytest.raises(BadArtefact, match=r"s0\.b0\.mixer\.safetensors is damaged .* delete it"):
        apply(step, striped)


def test_by_default_all_that_can_be_are_replaced(striped: Model, stripes: Dataset) -> None:
    a = striped.architecture.with_blocks(
        lambda name, block: block.model_copy(update={"mixer": Pool()}) if name == "s0.b1" else block
    )
    assert list(OtherMixers(stripes, "linear").records(a)) == ["s0.b0.mixer"]
    assert list(OtherMixers(stripes, "pool").records(a)) == ["s0.b0.mixer"]
    assert list(tried(OtherMixers(stripes, "cosformer"), striped.architecture, 2).records(striped.architecture)) == [
        "s0.b0.mixer"
    ]
    for layers, words in (
        (("s0.b1",), "linear cannot be in the place of the mixer of s0.b1: it has no heads and no qk and no v"),
        (("s0.b9",), r"no block with a mixer named s0\.b9; this model has s0\.b0, s0\.b1"),
    ):
        with pytest.raises(BadOption, match=words):
            OtherMixers(stripes, "linear", layers=layers).records(a)
    none = a.with_blocks(lambda _, block: block.model_copy(update={"mixer": None}))
    with pytest.raises(BadOption, match="no mixers that another could take the place of"):
        OtherMixers(stripes, "pool").records(none)
