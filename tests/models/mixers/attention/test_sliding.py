"""Sliding window attention against its formula, token by token, and against attention whose weights are masked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Operator, Softmax
from wb.core.records.attention import Sliding
from wb.models.block import build_operator
from wb.models.counting import operator_macs
from wb.models.layers.operator import NOTHING, Context, OperatorModule

EMBED = 5


def drawn(record: Operator, layout: Layout) -> OperatorModule:
    module = build_operator(record, EMBED, layout).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        weight.normal_(0, 0.5, generator=generator)
    return module


def tokens(count: int) -> Tensor:
    return torch.randn(2, count, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("count", "reach"), [(7, 2), (6, 3), (4, 1), (3, 9)])
def test_it_is_its_formula(count: int, reach: int, causal: bool) -> None:
    module, x = drawn(Sliding(heads=2, qk=3, v=4, reach=reach), Layout((count,), causal=causal)), tokens(count)
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    expected = w["bo"].expand_as(x).clone()
    for b in range(2):
        for h in range(2):
            q, k, v = (x[b] @ w[f"w{n}"][h].T + w[f"b{n}"][h] for n in "qkv")
            for i in range(count):
                near = [j for j in range(count) if abs(i - j) <= reach and not (causal and j > i)]
                shares = {j: math.exp(float(q[i] @ k[j]) / math.sqrt(3)) for j in near}
                y = sum(share * v[j] for j, share in shares.items()) / sum(shares.values())
                expected[b, i] += w["wo"][:, h] @ y
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12)


def test_of_a_picture_it_is_the_line_of_its_rows() -> None:
    record = Sliding(heads=2, qk=3, v=4, reach=2)
    torch.testing.assert_close(drawn(record, Layout((2, 4)))(tokens(8)), drawn(record, Layout((8,)))(tokens(8)))


def test_a_reach_over_all_tokens_is_softmax_attention() -> None:
    found = drawn(Sliding(heads=2, qk=3, v=4, reach=6), Layout((7,)))(tokens(7))
    torch.testing.assert_close(found, drawn(Softmax(heads=2, qk=3, v=4), Layout((7,)))(tokens(7)))


def test_padding_is_not_seen_and_fewer_tokens_are_the_same_function() -> None:
    layout = Layout((9,), padded=True, dynamic=True)
    module, x = drawn(Sliding(heads=2, qk=3, v=4, reach=2), layout), tokens(9)
    mask = torch.arange(9)[None, :] < torch.tensor([[9], [5]])
    found = module(x, Context(mask=mask, visible=mask[:, None, None, :]))
    torch.testing.assert_close(found[0:1], module(x[0:1]))
    torch.testing.assert_close(found[1:2, :5], module(x[1:2, :5], NOTHING))


def test_products_grow_with_the_tokens_and_not_with_their_square() -> None:
    macs = [operator_macs(Sliding(heads=2, qk=4, v=6, reach=8), 16, Layout((count,))).value for count in (64, 128, 256)]
    assert macs[2] - macs[1] == 2 * (macs[1] - macs[0])
    assert macs[2] == 256 * (16 * 2 * (2 * 4 + 2 * 6) + 3 * 8 * 2 * (4 + 6))
