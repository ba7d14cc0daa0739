from __future__ import annotations

import pytest
import torch

from tests.networks import assembled
from wb.compress.binarize.lowbits import LowBits, chosen
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption
from wb.core.precision import precisions, with_precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Pool, Softmax
from wb.models.model import Model, from_network
from wb.models.network import build
from wb.models.passes.base import apply

BLOCK = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=8))


@pytest.fixture(scope="module")
def network(image: ImageInput) -> Architecture:
    stages = (Stage(embed=8, blocks=(BLOCK, Block(mixer=Pool(), ffn=Mlp(mlp=8)))), Stage(embed=12, blocks=(BLOCK,)))
    return assembled(input=image, stem=PatchStem(patch=2), stages=stages, classes=3)


def model_of(architecture: Architecture) -> Model:
    torch.manual_seed(0)
    module = build(architecture)
    module.reset()
    return from_network(architecture, module)


def test_everything_is_rounded_but_the_convolutions_and_the_head(network: Architecture) -> None:
    groups = chosen(network, "w1")
    assert set(precisions(network)) - set(groups) == {"stem", "s1.merge", "head"}
    assert chosen(network, "w1", head=True) == (*groups, "head")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("s0.b0.ffn.out", {"s0.b0.ffn.out"}),
        ("s0.b0.mixer", {"s0.b0.mixer.in", "s0.b0.mixer.out"}),
        ("s0.b1", {"s0.b1.ffn.in", "s0.b1.ffn.out"}),
        ("stem", set()),
    ],
)
def test_what_is_kept_is_a_group_or_all_that_begin_with_a_name(
    network: Architecture, name: str, kept: set[str]
) -> None:
    assert set(chosen(network, "w1")) - set(chosen(network, "w1", (name,))) == kept


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (("s0.b2",), "no group named s0.b2 to keep; this network has stem, s0.b0.mixer.in"),
        (("s0.b0.mix",), "no group named s0.b0.mix"),
        (("s0", "s1"), "no group is left"),
    ],
)
def test_names_that_do_not_fit_are_refused(network: Architecture, keep: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        chosen(network, "w2", keep)


def test_what_is_binary_already_is_refused(network: Architecture) -> None:
    binary = with_precisions(network, dict.fromkeys(chosen(network, "w1"), "w1"))
    with pytest.raises(BadOption, match=r"binary already \(10 groups\)"):
        chosen(binary, "w1")
    assert chosen(binary, "w2") == chosen(network, "w2"), "ternary is another matter"
    assert "head" in chosen(binary, "w1", head=True), "one more group is something to do"


def test_the_pass_changes_what_is_computed_and_no_weight(network: Architecture) -> None:
    model = model_of(network)
    rounded = apply(LowBits("w2", ("s0.b0.ffn.in", "head")), model)
    assert {g: p for g, p in precisions(rounded.architecture).items() if p != "fp32"} == {
        "s0.b0.ffn.in": "w2",
        "head": "w2",
    }
    assert all(torch.equal(weight, model.weights[name]) for name, weight in rounded.weights.items())
    images = torch.rand(2, 1, 8, 8)
    assert not torch.equal(rounded.network()(images), model.network()(images))
    with pytest.raises(BadOption, match="stem cannot be kept in 'w2'"):
        LowBits("w2", ("stem",))(model)
