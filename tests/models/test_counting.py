from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tests.catalogue import OPERATORS, Placed
from tests.networks import assembled, wired
from wb.core.architecture import Architecture, Block, Stage
from wb.core.precision import precisions, with_precisions
from wb.core.records import ConvStem, ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.ffns import Words
from wb.core.records.mixers.sparse import Latents
from wb.models.block import build_operator
from wb.models.counting import count_bytes, count_macs, count_parameters, operations
from wb.models.network import build


def test_macs_are_those_of_the_formula(image: ImageInput) -> None:
    n, d, h, k, v, m, classes = 16, 12, 3, 4, 5, 20, 10
    block = Block(mixer=Softmax(heads=h, qk=k, v=v), ffn=Mlp(mlp=m))
    a = assembled(
        input=image, stem=PatchStem(patch=2), stages=(Stage(embed=d, blocks=(block, Block())),), classes=classes
    )
    stem = n * 4 * d
    mixer = n * d * h * (2 * k + 2 * v) + h * n * n * (k + v)
    assert count_macs(a).value == stem + mixer + 2 * n * d * m + d * classes


def test_parameters_are_those_of_the_network(image: ImageInput) -> None:
    a = assembled(input=image, stem=ConvStem(patch=4, width=6), stages=(Stage(embed=8, blocks=()),), classes=3)
    assert count_parameters(a).value == sum(weight.numel() for weight in build(a).parameters())
    post = wired(a, "post")
    assert count_parameters(a).value - count_parameters(post).value == 2 * 8, "the last norm"
    assert count_macs(a).value == count_macs(post).value
    assert build(a, "meta").head.device == torch.device("meta")


def two_stages(image: ImageInput) -> Architecture:
    block = Block(mixer=Softmax(heads=3, qk=4, v=5), ffn=Mlp(mlp=20))
    stages = (Stage(embed=12, blocks=(block, Block(), block)), Stage(embed=6, blocks=(block,)))
    return assembled(input=image, stem=ConvStem(patch=2, width=4), stages=stages, classes=10)


def test_operations_add_up_to_the_macs_and_belong_to_their_groups(image: ImageInput) -> None:
    a = two_stages(image)
    found = operations(a)
    assert sum(part.macs for part in found.values()) == count_macs(a).value
    assert set(precisions(a)) == {name for name in found if not name.endswith(".products")}
    assert found["s0.b0.mixer.products"].macs == 3 * 16 * 16 * (4 + 5)
    assert found["s1.b0.mixer.products"].macs == 3 * 4 * 4 * (4 + 5)
    assert found["s0.b2.ffn.in"].macs == 16 * 12 * 20
    assert found["s1.merge"].macs == 4 * 4 * 12 * 6


class Used(TorchFunctionMode):
    """Adds up, by the memory of a weight, how many products linear maps and convolutions make with it."""

    def __init__(self) -> None:
        super().__init__()
        self.macs: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if func in (F.linear, F.conv1d, F.conv2d):
            weight = args[1]
            places = given.numel() // weight.shape[0]
            self.macs[weight.untyped_storage().data_ptr()] += weight.numel() * places
        return given


@pytest.mark.parametrize("one", OPERATORS.values(), ids=list(OPERATORS))
def test_an_operator_says_how_often_it_uses_its_maps(one: Placed) -> None:
    operator = build_operator(one.record, one.embed, one.layout).eval()
    for weight in operator.parameters():
        torch.nn.init.ones_(weight)
    shape = (1, one.embed, *one.layout.shape) if one.layout.plane == "map" else (1, one.layout.tokens, one.embed)
    with torch.no_grad(), Used() as used:
        operator(torch.ones(shape))
    for name in (*operator.inner, *operator.writers):
        if operator.precision(name) == "fp32":  # what is rounded is used as a copy
            weight = operator.get_parameter(name)
            assert used.macs[weight.untyped_storage().data_ptr()] == weight.numel() * operator.times(name), name


def test_no_operator_makes_less_than_its_maps(image: ImageInput) -> None:
    """Attention through few latents, whose maps are used less often than tokens have them."""
    few = Latents(heads=2, qk=4, v=4, groups=1, latents=1, latent_width=24, latent_mlp=32)
    block = Block(mixer=few, ffn=Words(word_mlp=9, words=4, reads="int8"))
    found = operations(assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block,)),)))
    assert found["s0.b0.mixer.products"].macs == 2 * (2 * 16 + 1) * (
        4 + 4
    )  # tokens and latents, latents among themselves
    assert found["s0.b0.ffn.products"].macs == 16 * 2 * 4 * 4 * (6 + 6)  # words of each token


def test_operations_know_their_precision(image: ImageInput) -> None:
    a = with_precisions(two_stages(image), {"stem": "int8", "s0.b0.mixer.in": "w1", "s1.merge": "int8", "head": "int4"})
    found = operations(a)
    assert {name: part.precision for name, part in found.items() if not name.endswith(".products")} == precisions(a)
    assert sum(part.macs for part in found.values()) == count_macs(two_stages(image)).value


def test_bytes_are_those_of_the_parameters_in_their_precision(image: ImageInput) -> None:
    a = two_stages(image)
    assert count_bytes(a).value == 4 * count_parameters(a).value
    low = with_precisions(a, {"s0.b0.ffn.in": "int8", "s0.b0.ffn.out": "w2"})
    assert count_bytes(a).value - count_bytes(low).value == 12 * 20 * (3 + 3.75)
