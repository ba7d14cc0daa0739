"""MemoryFormer's tables against their formula, number by number; signs, cells between jumps, tables of fewer."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.ffns import Tables
from wb.models.axes import Leading, Map, Select, remap
from wb.models.block import build_operator
from wb.models.counting import operator_macs
from wb.models.layers.operator import NOTHING, OperatorModule

Form = Literal["official", "probability"]
FORMS: tuple[Form, ...] = ("official", "probability")
LAYOUT = Layout((1, 5))


def drawn(record: Tables, embed: int = 3) -> OperatorModule:
    module = build_operator(record, embed, LAYOUT).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
    return module


def tokens(embed: int = 3) -> Tensor:
    return torch.randn(2, 5, embed, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def looked_up(z: list[list[float]], tables: list[list[list[float]]], bias: list[float], form: Form) -> list[float]:
    """What tables (T, 2^K, D) give for the numbers z (T, K) of one token."""
    given = list(bias)
    for numbers, table in zip(z, tables, strict=True):
        code = sum(2 ** (len(numbers) - 1 - i) for i, one in enumerate(numbers) if one >= 0)
        weight = 1 / math.prod(1 + math.exp(-2 * abs(one)) for one in numbers)
        if form == "official":
            weight *= sum(map(abs, numbers))
        given = [a + weight * b for a, b in zip(given, table[code], strict=True)]
    return given


@pytest.mark.parametrize("form", FORMS)
def test_it_is_its_formula(form: Form) -> None:
    module, x = drawn(Tables(tables=4, bits=3, form=form)), tokens()
    maps, biases = module.get_parameter("numbers").tolist(), module.get_parameter("numbers_bias").tolist()
    tables, bias = module.get_parameter("rows").permute(1, 2, 0).tolist(), module.get_parameter("rows_bias").tolist()
    expected = []
    for token in x.flatten(0, 1).tolist():
        z = [
            [sum(a * b for a, b in zip(row, token, strict=True)) + shift for row, shift in zip(*one, strict=True)]
            for one in zip(maps, biases, strict=True)
        ]
        expected.append(looked_up(z, tables, bias, form))
    torch.testing.assert_close(module(x).flatten(0, 1), torch.tensor(expected, dtype=x.dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_with_the_identity_it_is_the_published_layer_of_chunks(form: Form) -> None:
    """The numbers of table t are channels tK to tK + K - 1; of a zero the sign is plus."""
    module, x = drawn(Tables(tables=2, bits=3, form=form), 6), tokens(6)
    x[0, 0, :2], x[0, 1, 5] = 0.0, -0.0
    with torch.no_grad():
        module.get_parameter("numbers").copy_(torch.eye(6).reshape(2, 3, 6))
        module.get_parameter("numbers_bias").zero_()
    tables, bias = module.get_parameter("rows").permute(1, 2, 0).tolist(), module.get_parameter("rows_bias").tolist()
    expected = [looked_up([token[:3], token[3:]], tables, bias, form) for token in x.flatten(0, 1).tolist()]
    torch.testing.assert_close(module(x).flatten(0, 1), torch.tensor(expected, dtype=x.dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_weight_is_the_probability_of_the_pattern_among_all(bits: int) -> None:
    """With a table of ones: the softmax, over all patterns of signs, of their products with the numbers, at its largest."""
    module, x = drawn(Tables(tables=1, bits=bits, form="probability")), tokens()
    with torch.no_grad():
        module.get_parameter("rows").fill_(1)
        module.get_parameter("rows_bias").zero_()
    z = x @ module.get_parameter("numbers")[0].T + module.get_parameter("numbers_bias")[0]
    patterns = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * bits).reshape(-1, bits)
    expected = (z @ patterns.T).softmax(dim=-1).amax(dim=-1, keepdim=True).expand_as(x)
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def test_what_keeps_all_signs_keeps_the_rows() -> None:
    """Within such a cell the function is smooth; across its border it jumps."""
    module, x = drawn(Tables(tables=4, bits=3)), tokens()
    rows = module.hidden(x, NOTHING) != 0
    near = x + 1e-9
    assert torch.equal(module.hidden(near, NOTHING) != 0, rows)
    torch.testing.assert_close(module(near), module(x), rtol=0, atol=1e-6)
    assert rows.unflatten(2, (4, 8)).sum(dim=3).unique().tolist() == [1]
    alone = drawn(Tables(tables=1, bits=2), 2)
    with torch.no_grad():
        alone.get_parameter("numbers").copy_(torch.eye(2)[None])
        alone.get_parameter("numbers_bias").zero_()
    left, right = (alone(torch.tensor([[[1.0, by]]]).double()) for by in (-1e-12, 1e-12))
    assert (left - right).abs().max() > 0.1


def test_gradients_reach_what_makes_the_numbers_and_the_rows_that_were_taken() -> None:
    module, x = drawn(Tables(tables=4, bits=3)), tokens()
    module(x).square().sum().backward()
    taken = (module.hidden(x, NOTHING) != 0).flatten(0, 1).any(dim=0).unflatten(0, (4, 8))
    rows, numbers = (module.get_parameter(name).grad for name in ("rows", "numbers"))
    assert rows is not None
    assert torch.equal((rows != 0).any(dim=0), taken)
    assert numbers is not None
    assert (numbers != 0).all()


def test_tables_are_leading_ones_of_more_and_leave_the_rest() -> None:
    """What a network with fewer tables gives, and one with the others, is what all give together."""
    module, x = drawn(Tables(tables=5, bits=2)), tokens()
    found = torch.zeros_like(x)
    weights = dict(module.named_parameters())
    parts: tuple[tuple[int, Map], ...] = ((2, Leading(2)), (3, Select(torch.tensor([2, 3, 4]))))
    for count, kept in parts:
        part = drawn(Tables(tables=count, bits=2))
        part.load_state_dict(remap(weights, part.axes, {"tables": kept}))
        found += part(x)
    torch.testing.assert_close(found - module.get_parameter("rows_bias"), module(x))


def test_it_costs_a_row_for_each_table() -> None:
    """For each of five tokens of three channels: four tables of three numbers, and four rows."""
    assert operator_macs(Tables(tables=4, bits=3), 3, LAYOUT).value == 5 * (4 * 3 * 3 + 4 * 3)
    module = build_operator(Tables(tables=4, bits=3), 3, LAYOUT, "meta")
    assert sum(weight.numel() for weight in module.parameters()) == 4 * 3 * 3 + 4 * 3 + 3 * 4 * 2**3 + 3
