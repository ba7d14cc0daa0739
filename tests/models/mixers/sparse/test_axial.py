"""Axial Combiner attention against its formula, pair by pair, and against full attention where a row has all tokens."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Operator, Softmax
from wb.core.records.mixers.sparse import AxialCombiner
from wb.models.block import build_operator
from wb.models.layers.operator import Context, OperatorModule

EMBED, COUNT = 5, 6


def drawn(record: Operator, *, causal: bool = False) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((COUNT,), causal=causal)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens() -> Tensor:
    return torch.randn(2, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def attended(scores: list[float], values: list[Tensor]) -> Tensor:
    shares = [math.exp(score) for score in scores]
    return sum((share * value for share, value in zip(shares, values, strict=True)), torch.zeros(4)) / sum(shares)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("form", ["once", "official"])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_its_formula(causal: bool, form: Literal["once", "official"], scale: float | None) -> None:
    """Rows of three tokens; the summary of the row that the stream as it is enters, as published, is one of its cases."""
    record = AxialCombiner(heads=2, qk=3, v=4, segment=3, summary=EMBED, form=form, scale=scale)
    module, x = drawn(record, causal=causal), tokens()
    with torch.no_grad():
        module.get_parameter("ws").copy_(torch.eye(EMBED))
        module.get_parameter("bs").zero_()
    w, factor = {name: weight.detach() for name, weight in module.named_parameters()}, scale or 3**-0.5
    expected = w["bo"].expand_as(x).clone()
    for b in range(2):
        q, k, v = ([x[b] @ w[f"w{n}"][h].T + w[f"b{n}"][h] for h in range(2)] for n in "qkv")
        own = [[j for j in range(COUNT) if j // 3 == i // 3] for i in range(COUNT)]
        row = [
            [
                attended([factor * float(q[h][i] @ k[h][j]) for j in own[i]], [v[h][j] for j in own[i]])
                for i in range(COUNT)
            ]
            for h in range(2)
        ]
        keys = []
        for i in range(COUNT):
            known = x[b, i] + sum(w["summary_row"][:, h] @ row[h][i] for h in range(2))
            normed = (known - known.mean()) / (known.var(correction=0) + 1e-6).sqrt()
            keys.append(w["summary_key"] @ (normed * w["summary_gain"] + w["summary_shift"]))  # (H, K)
        for h in range(2):
            for i in range(COUNT):
                near = [j for j in own[i] if j <= i or not causal]
                rows = [r for r in range(2) if (r < i // 3 if causal else r != i // 3 or form == "official")]
                far = [3 * r + i % 3 for r in rows]
                scores = [factor * float(q[h][i] @ k[h][j]) for j in near]
                scores += [factor * float(q[h][i] @ keys[j][h]) for j in far]
                expected[b, i] += w["wo"][:, h] @ attended(scores, [v[h][j] for j in near] + [row[h][j] for j in far])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_one_row_is_full_attention(causal: bool) -> None:
    found = drawn(AxialCombiner(heads=2, qk=3, v=4, segment=COUNT), causal=causal)(tokens())
    visible = torch.ones(COUNT, COUNT).tril().bool()[None, None] if causal else None
    torch.testing.assert_close(found, drawn(Softmax(heads=2, qk=3, v=4))(tokens(), Context(visible=visible)))


@pytest.mark.parametrize(("at", "reaches"), [(0, [0, 1, 2, 3, 4, 5]), (1, [1, 2, 3, 4, 5]), (4, [4, 5])])
def test_looking_back_no_token_sees_what_follows(at: int, reaches: list[int]) -> None:
    """A row that is over is seen whole, by its summaries."""
    module, x = drawn(AxialCombiner(heads=2, qk=3, v=4, segment=3), causal=True), tokens()
    other = x.clone()
    other[:, at] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.nonzero().flatten().tolist() == reaches
