"""Activator's gated unit against its formula, number by number, and against the published code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.published import TYPES, Published, check, filled, run_block
from wb.core.architecture import Block
from wb.core.layout import Layout
from wb.core.records import LayerNorm, Mlp
from wb.core.records.ffns import Activator
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule


def drawn(embed: int = 3, mlp: int = 4) -> OperatorModule:
    module = build_operator(Activator(mlp=mlp), embed, Layout((1, 5))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
    return module


def tokens(embed: int = 3) -> Tensor:
    return torch.randn(2, 5, embed, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def linear(rows: Sequence[Sequence[float]], biases: Sequence[float], token: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, token, strict=True)) + bias for row, bias in zip(rows, biases, strict=True)]


def test_it_is_its_formula() -> None:
    module, x = drawn(), tokens()
    w = {name: weight.tolist() for name, weight in module.named_parameters()}

    def normed(values: list[float]) -> list[float]:
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + 1e-5)
        by = zip(values, w["inner_gain"], w["inner_shift"], strict=True)
        return [(value - mean) / deviation * gain + shift for value, gain, shift in by]

    expected = []
    for token in x.flatten(0, 1).tolist():
        gate = [z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in linear(w["gate"], w["gate_bias"], token)]
        up = linear(w["up"], w["up_bias"], token)
        hidden = [a * b for a, b in zip(normed(gate), normed(up), strict=True)]
        expected.append(linear(w["down"], w["down_bias"], hidden))
    torch.testing.assert_close(module(x).flatten(0, 1), torch.tensor(expected, dtype=x.dtype), rtol=1e-6, atol=1e-6)


def test_tokens_do_not_see_each_other() -> None:
    module, x = drawn(), tokens()
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])
    other = x.clone()
    other[:, 2] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


@pytest.mark.reference
@TYPES
def test_unit_and_block_are_the_published_ones(reference: Path, kind: torch.dtype, tolerance: float) -> None:
    data = Published(reference, "activator_block", kind)
    names = {"gate": "proj_1", "up": "proj_2", "down": "proj_3"}
    unit = {name: data.weight(f"actgu.{theirs}.weight") for name, theirs in names.items()}
    unit |= {f"{name}_bias": data.weight(f"actgu.{theirs}.bias") for name, theirs in names.items()}
    unit |= {"inner_gain": data.weight("actgu.norm.weight"), "inner_shift": data.weight("actgu.norm.bias")}
    mlp = {"up": data.weight("ffn.net.0.weight"), "up_bias": data.weight("ffn.net.0.bias")}
    mlp |= {"down": data.weight("ffn.net.3.weight"), "down_bias": data.weight("ffn.net.3.bias")}
    x, layout, norm = data.given("x"), Layout((1, 9)), LayerNorm(eps=1e-5)
    record = Activator(mlp=24)
    alone = filled(build_operator(record, 16, layout), unit)
    check(alone(x).detach(), data.expected("gating_unit"), tolerance)
    first = run_block(x, Block(ffn=record), layout, norm, norm2=data.norm("norm"), ffn=unit)
    whole = run_block(first, Block(ffn=Mlp(mlp=24)), layout, norm, norm2=data.norm("norm"), ffn=mlp)
    check(whole, data.expected("block"), tolerance)
