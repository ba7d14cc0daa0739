from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.networks import assembled
from wb.compress.binarize import hash as hashed
from wb.compress.binarize.hash import Converted, HashAttention, projections
from wb.compress.binarize.hashing import drawn
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadData, BadOption
from wb.core.records import Cosformer, Hash, ImageInput, Mlp, PatchStem, Softmax
from wb.data import Dataset
from wb.models.mixers.attention.softmax import SoftmaxAttention
from wb.models.model import Model, from_network
from wb.models.network import build
from wb.models.passes.base import apply
from wb.training.fit import Recipe
from wb.training.train import train

SOFTMAX = Softmax(heads=2, qk=4, v=6)


def architecture(image: ImageInput, **changes: object) -> Architecture:
    """Two softmax blocks, one that is off and one with other attention between them."""
    block = Block(mixer=SOFTMAX, ffn=Mlp(mlp=16))
    blocks = (block, Block(), Block(mixer=Cosformer(heads=2, qk=4, v=4)), block)
    fields: dict[str, Any] = {"input": image, "stem": PatchStem(patch=2), "stages": (Stage(embed=12, blocks=blocks),)}
    return assembled(**{**fields, **changes})


@pytest.fixture(scope="module")
def trained(image: ImageInput, stripes: Dataset) -> Model:
    return train(architecture(image), stripes, Recipe(epochs=6))


@pytest.fixture(scope="module")
def converted(trained: Model, stripes: Dataset) -> Model:
    return apply(HashAttention(stripes, bits=8, anchors=10, images=32), trained)


def distance(model: Model, to: Model, data: Dataset) -> float:
    """The mean KL divergence of class probabilities on validation images."""
    images = torch.from_numpy(data.validation.pixels())
    with torch.no_grad():
        given, wanted = model.network()(images).log_softmax(1), to.network()(images).log_softmax(1)
    return float(F.kl_div(given, wanted, log_target=True, reduction="batchmean"))


def test_every_softmax_mixer_becomes_a_hash_mixer_of_its_widths(trained: Model, converted: Model) -> None:
    """`apply` has checked that the weights are those of the architecture, and the input untouched."""
    before, after = ([block.mixer for _, _, block in model.architecture.blocks()] for model in (trained, converted))
    record = Hash(heads=2, qk=4, v=6, bits=8, anchors=10)
    assert after == [record if mixer == SOFTMAX else mixer for mixer in before]
    assert converted.history[-1].name == "hash"
    assert converted.history[-1].arguments["bits"] == 8


def test_all_but_the_projection_of_queries_and_keys_stays(trained: Model, converted: Model) -> None:
    changed = {
        name for name, weight in trained.weights.items() if not torch.equal(converted.weights.get(name, weight), weight)
    }
    assert {name.rsplit(".", 1)[1] for name in changed} <= {"wq", "bq"}
    gone, new = trained.weights.keys() - converted.weights.keys(), converted.weights.keys() - trained.weights.keys()
    assert {name.rsplit(".", 1)[1] for name in gone} == {"wk", "bk"}
    assert {name.rsplit(".", 1)[1] for name in new} == {"anchors", "mean", "hash"}


def test_it_is_nearer_to_the_softmax_model_than_with_random_hash_functions(
    trained: Model, converted: Model, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hashed, "learned", lambda u, _s, bits, anchors, generator, _n: drawn(u, bits, anchors, generator)
    )
    passes = [HashAttention(stripes, bits=8, anchors=10, images=32, seed=seed) for seed in range(3)]
    random = [distance(apply(one, trained), trained, stripes) for one in passes]
    assert distance(converted, trained, stripes) < min(random)


def test_the_same_seed_gives_the_same_model(trained: Model, converted: Model, stripes: Dataset) -> None:
    again = HashAttention(stripes, bits=8, anchors=10, images=32)(trained)
    assert again.fingerprint() == converted.fingerprint()


def test_only_the_named_blocks_are_converted_and_reported(trained: Model, stripes: Dataset) -> None:
    said: dict[str, Converted] = {}
    result = apply(
        HashAttention(stripes, ("s0.b3",), bits=3, anchors=4, form="official", images=8, report=said.__setitem__),
        trained,
    )
    kinds = {name: block.mixer and block.mixer.kind for name, _, block in result.architecture.blocks()}
    assert kinds == {"s0.b0": "softmax", "s0.b1": None, "s0.b2": "cosformer", "s0.b3": "hash"}
    mixer = result.architecture.stages[0].blocks[3].mixer
    assert isinstance(mixer, Hash)
    assert mixer.form == "official"
    assert list(said) == ["s0.b3"]
    assert said["s0.b3"].divergence.keys() == {"queries", "keys", "both"}
    assert result.history[-1].arguments["projections"] == {"s0.b3": said["s0.b3"].shared}


@pytest.mark.parametrize("shape", ["post", "cls", "stages", "w1"])
def test_any_form_of_network_is_converted(image: ImageInput, stripes: Dataset, shape: str) -> None:
    mixer = SOFTMAX.model_copy(update={"reads": "w1"}) if shape == "w1" else SOFTMAX.model_copy(update={"scale": -0.3})
    block = Block(mixer=mixer, ffn=Mlp(mlp=8))
    stages = tuple(Stage(embed=12, blocks=(block, block)) for _ in range(2 if shape == "stages" else 1))
    norm, pool = ("post" if shape == "post" else "pre"), ("cls" if shape == "cls" else "mean")
    a = architecture(image, stages=stages, norm=norm, pool=pool)
    network = build(a)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.reset()
    result = apply(HashAttention(stripes, bits=3, anchors=4, images=8), from_network(a, network))
    mixers = [block.mixer for _, _, block in result.architecture.blocks()]
    assert mixers == [Hash(heads=2, qk=4, v=6, bits=3, anchors=4, reads=mixer.reads)] * len(mixers)


def test_the_common_projection_of_symmetric_attention_has_its_scores(trained: Model) -> None:
    """Of queries that are the keys, the positive part is all of it."""
    mixer = trained.network().stages[0][0].mixer  # type: ignore[index]
    assert isinstance(mixer, SoftmaxAttention)
    with torch.no_grad():
        mixer.wk.copy_(mixer.wq)
        mixer.bq.zero_()
        weight, bias = projections(mixer)["both"]
        torch.testing.assert_close(weight.mT @ weight, 4**-0.5 * mixer.wq.mT @ mixer.wq, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(bias, torch.zeros_like(bias), rtol=0, atol=1e-4)


def test_what_cannot_be_converted_is_refused(trained: Model, stripes: Dataset, converted: Model) -> None:
    with pytest.raises(BadOption, match="no softmax mixer that hash attention"):
        HashAttention(stripes)(converted)
    with pytest.raises(
        BadOption, match=r"no block with a softmax mixer named s0.b2, s9.b9; this model has s0.b0, s0.b3"
    ):
        HashAttention(stripes, ("s0.b0", "s9.b9", "s0.b2"))(trained)
    with pytest.raises(BadOption, match="bits: Input should be greater"):
        HashAttention(stripes, bits=0)(trained)
    with pytest.raises(BadOption, match="0 images leave nothing"):
        HashAttention(stripes, images=0)(trained)
    with pytest.raises(BadOption, match="25 anchors cannot be chosen among 16 tokens"):
        HashAttention(stripes, images=1)(trained)
    other = replace(stripes, classes=("a", "b", "c", "d"))
    with pytest.raises(BadData, match="have 4 classes, and the model has 3"):
        HashAttention(other)(trained)
