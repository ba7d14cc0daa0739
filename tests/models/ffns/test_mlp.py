"""Feed-forwards of two layers against their formula, number by number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import get_args

import pytest
import torch

from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Layout
from wb.core.records import Classify, ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.base import Activation
from wb.models.block import build_operator

FORMULAS: Mapping[str, Callable[[float], float]] = {
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: max(x, 0.0),
    "relu2": lambda x: max(x, 0.0) ** 2,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_an_mlp_is_its_formula(activation: Activation, bias: bool) -> None:
    module = build_operator(Mlp(mlp=4, activation=activation, bias=bias), 3, Layout((1, 2))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
    w = {name: weight.tolist() for name, weight in module.named_parameters()}
    assert set(w) == ({"up", "up_bias", "down", "down_bias"} if bias else {"up", "down"})
    x = torch.randn(1, 2, 3, generator=generator, dtype=torch.float64)
    expected = torch.empty_like(x)
    for n, token in enumerate(x[0].tolist()):
        hidden = [
            FORMULAS[activation](sum(a * b for a, b in zip(row, token, strict=True)) + w.get("up_bias", [0.0] * 4)[j])
            for j, row in enumerate(w["up"])
        ]
        for i, row in enumerate(w["down"]):
            expected[0, n, i] = sum(a * b for a, b in zip(row, hidden, strict=True)) + w.get("down_bias", [0.0] * 3)[i]
    torch.testing.assert_close(module(x), expected)


def test_settings_at_their_defaults_are_not_in_the_json(image: ImageInput) -> None:
    """Networks keep the keys they had before there were others."""
    block = Block(mixer=Softmax(heads=1, qk=2, v=2), ffn=Mlp(mlp=3))
    stage = Stage(embed=4, blocks=(block,))
    a = Architecture(input=image, stem=PatchStem(patch=4), stages=(stage,), head=Classify(classes=2))
    assert "bias" not in a.to_json()
    assert "activation" not in a.to_json()
    other = Block(mixer=Softmax(heads=1, qk=2, v=2, bias=False), ffn=Mlp(mlp=3, activation="relu2", bias=False))
    b = a.model_copy(update={"stages": (Stage(embed=4, blocks=(other,)),)})
    assert b.to_json().count('"bias":false') == 2
    assert Architecture.from_json(b.to_json()) == b
    assert repr(block.ffn) == "Mlp(kind='mlp', mlp=3)"
