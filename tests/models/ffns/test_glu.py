"""The gated linear unit against its formula, number by number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from wb.core.layout import Layout
from wb.core.records import Mlp
from wb.core.records.ffns import Glu
from wb.models.block import build_operator


def product(row: Sequence[float], token: Sequence[float], bias: float) -> float:
    return sum(a * b for a, b in zip(row, token, strict=True)) + bias


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_its_formula(bias: bool) -> None:
    module = build_operator(Glu(mlp=4, bias=bias), 3, Layout((1, 2))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
    w = {name: weight.tolist() for name, weight in module.named_parameters()}
    biases = {name: w.get(f"{name}_bias", [0.0] * 4) for name in ("gate", "up", "down")}
    assert len(w) == (6 if bias else 3)
    x = torch.randn(1, 2, 3, generator=generator, dtype=torch.float64)
    expected = torch.empty_like(x)
    for n, token in enumerate(x[0].tolist()):
        hidden = []
        for gate, up, b, c in zip(w["gate"], w["up"], biases["gate"], biases["up"], strict=True):
            z = product(gate, token, b)
            hidden.append(z / (1 + math.exp(-z)) * product(up, token, c))
        for i, row in enumerate(w["down"]):
            expected[0, n, i] = product(row, hidden, biases["down"][i])
    torch.testing.assert_close(module(x), expected)


def test_a_gate_of_one_leaves_the_linear_layers() -> None:
    """A ReLU of one number everywhere is that number."""
    module = build_operator(Glu(mlp=4, activation="relu", bias=True), 3, Layout((1, 2)))
    module.reset()
    w = dict(module.named_parameters())
    with torch.no_grad():
        w["gate"].zero_()
        w["gate_bias"].fill_(1)
    x = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x), x @ w["up"].T @ w["down"].T)


def test_it_shares_what_it_has_in_common_with_the_two_layer_one() -> None:
    names = [set(build_operator(record, 3, Layout((1, 2))).axes) for record in (Glu(mlp=4), Mlp(mlp=4))]
    assert names[0] & names[1] == {"up", "down"}
