"""Attention within groups against its formula, pair by pair, and against attention whose weights are masked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Softmax
from wb.core.records.attention import Grouped
from wb.models.block import build_operator
from wb.models.layers.operator import NOTHING, Context, OperatorModule
from wb.models.mixers.attention.group import shuffled

EMBED, GRID = 5, Layout((2, 3))


def drawn(record: Grouped | Softmax, layout: Layout = GRID) -> OperatorModule:
    module = build_operator(record, EMBED, layout).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens(count: int = 6) -> Tensor:
    return torch.randn(2, count, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("permuted", [False, True])
def test_it_is_its_formula(permuted: bool) -> None:
    module, x = drawn(Grouped(heads=2, qk=3, v=4, groups=2, permuted=permuted)), tokens()
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    order = shuffled(6).tolist() if permuted else list(range(6))
    group = {token: place // 3 for place, token in enumerate(order)}
    expected = w["bo"].expand_as(x).clone()
    for b in range(2):
        for h in range(2):
            q, k, v = (x[b] @ w[f"w{n}"][h].T + w[f"b{n}"][h] for n in "qkv")
            for i in range(6):
                shares = {j: math.exp(float(q[i] @ k[j]) / math.sqrt(3)) for j in range(6) if group[j] == group[i]}
                y = sum(share * v[j] for j, share in shares.items()) / sum(shares.values())
                expected[b, i] += w["wo"][:, h] @ y
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def test_it_is_attention_whose_weights_between_groups_are_left_out() -> None:
    place = torch.arange(6) // 3
    visible = (place[:, None] == place[None, :])[None, None]
    expected = drawn(Softmax(heads=2, qk=3, v=4))(tokens(), Context(visible=visible))
    torch.testing.assert_close(drawn(Grouped(heads=2, qk=3, v=4, groups=2))(tokens()), expected)


@pytest.mark.parametrize("permuted", [False, True])
def test_one_group_is_softmax_attention(permuted: bool) -> None:
    found = drawn(Grouped(heads=2, qk=3, v=4, groups=1, permuted=permuted))(tokens())
    torch.testing.assert_close(found, drawn(Softmax(heads=2, qk=3, v=4))(tokens()))


@pytest.mark.parametrize(("count", "groups"), [(12, 4), (10, 2), (9, 3), (7, 1)])
def test_there_are_as_many_groups_as_divide_the_tokens(count: int, groups: int) -> None:
    """Tokens of one group are all that a token sees."""
    module = drawn(Grouped(heads=2, qk=3, v=4, groups=4), Layout((count,)))
    x = tokens(count).requires_grad_()
    module(x, NOTHING)[0, 0].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(dim=1) > 0
    assert seen.tolist() == [i < count // groups for i in range(count)]


def test_the_order_is_the_same_in_every_call() -> None:
    record = Grouped(heads=2, qk=3, v=4, groups=2, permuted=True)
    assert torch.equal(drawn(record)(tokens()), drawn(record)(tokens()))
