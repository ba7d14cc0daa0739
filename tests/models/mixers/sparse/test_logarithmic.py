"""Logarithmic Combiner attention against its formula, block by block; which tokens see which."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Operator, Softmax
from wb.core.records.mixers.sparse import LogCombiner
from wb.models.block import build_operator
from wb.models.layers.operator import Context, OperatorModule

EMBED = 5
RECORD = LogCombiner(heads=2, qk=3, v=4)


def drawn(count: int, record: Operator = RECORD, *, causal: bool = False) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((count,), causal=causal)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens(count: int) -> Tensor:
    return torch.randn(2, count, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def blocks(i: int) -> Iterator[range]:
    """Those before token i: one for every bit that is set in i."""
    for level in range(10):
        if i >> level & 1:
            first = ((i >> level) - 1) << level
            yield range(first, first + 2**level)


def attended(scores: list[float], values: list[Tensor]) -> Tensor:
    shares = [math.exp(score) for score in scores]
    return sum((share * value for share, value in zip(shares, values, strict=True)), torch.zeros(4)) / sum(shares)


def largest(rows: Tensor) -> Tensor:
    return torch.stack([max(column, key=float) for column in rows.T])


def test_blocks_are_all_that_is_before_a_token() -> None:
    for i in range(40):
        assert sorted(j for block in blocks(i) for j in block) == list(range(i))


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("count", [1, 2, 7, 9])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_its_formula(causal: bool, count: int, scale: float | None) -> None:
    module, x = drawn(count, RECORD.model_copy(update={"scale": scale}), causal=causal), tokens(count)
    w, factor = {name: weight.detach() for name, weight in module.named_parameters()}, scale or 3**-0.5
    expected = w["bo"].expand_as(x).clone()
    for b in range(2):
        for h in range(2):
            q, k, v = (x[b] @ w[f"w{n}"][h].T + w[f"b{n}"][h] for n in "qkv")
            for i in range(count):
                seen = [list(block) for block in blocks(i)]
                if not causal:
                    seen += [[count - 1 - j for j in block] for block in blocks(count - 1 - i)]
                scores, values = [factor * float(q[i] @ k[i])], [v[i]]
                for block in seen:
                    query = largest(q[block])
                    scores.append(factor * float(q[i] @ largest(k[block])))
                    values.append(attended([factor * float(query @ k[j]) for j in block], [v[j] for j in block]))
                expected[b, i] += w["wo"][:, h] @ attended(scores, values)
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_two_tokens_are_full_attention(causal: bool) -> None:
    visible = torch.ones(2, 2).tril().bool()[None, None] if causal else None
    expected = drawn(2, Softmax(heads=2, qk=3, v=4))(tokens(2), Context(visible=visible))
    torch.testing.assert_close(drawn(2, causal=causal)(tokens(2)), expected)


def test_looking_back_no_token_sees_what_follows() -> None:
    module, x = drawn(9, causal=True), tokens(9)
    for at in range(9):
        other = x.clone()
        other[:, at] += 1
        changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
        assert changed.nonzero().flatten().tolist() == list(range(at, 9))
