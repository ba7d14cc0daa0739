"""Combiner attention against its formula, pair by pair; full attention where segments are tokens or the whole."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Softmax
from wb.core.records.attention import Combiner
from wb.models.block import build_operator
from wb.models.layers.operator import Context, OperatorModule

EMBED, COUNT = 5, 6
Form = Literal["once", "official"]


def drawn(record: Combiner | Softmax, *, causal: bool = False, count: int = COUNT) -> OperatorModule:
    layout = Layout((count,), causal=causal and not isinstance(record, Softmax))
    module = build_operator(record, EMBED, layout).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens(count: int = COUNT) -> Tensor:
    return torch.randn(2, count, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def largest(rows: Tensor) -> Tensor:
    return torch.stack([max(column, key=float) for column in rows.T])


def attended(scores: list[float], values: list[Tensor]) -> Tensor:
    shares = [math.exp(score) for score in scores]
    return sum((share * value for share, value in zip(shares, values, strict=True)), torch.zeros(4)) / sum(shares)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("form", ["once", "official"])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_its_formula(causal: bool, form: Form, scale: float | None) -> None:
    module, x = drawn(Combiner(heads=2, qk=3, v=4, segment=2, form=form, scale=scale), causal=causal), tokens()
    w, factor = {name: weight.detach() for name, weight in module.named_parameters()}, scale or 3**-0.5
    expected = w["bo"].expand_as(x).clone()
    for b in range(2):
        for h in range(2):
            q, k, v = (x[b] @ w[f"w{n}"][h].T + w[f"b{n}"][h] for n in "qkv")
            summaries = []
            for s in range(3):
                own = slice(2 * s, 2 * s + 2)
                query = largest(q[own])
                scores = [factor * float(query @ key) for key in k[own]]
                summaries.append((largest(k[own]), attended(scores, list(v[own]))))
            for i in range(COUNT):
                near = [j for j in range(COUNT) if j // 2 == i // 2 and (j <= i or not causal)]
                far = [s for s in range(3) if (s < i // 2 if causal else s != i // 2 or form == "official")]
                scores = [factor * float(q[i] @ k[j]) for j in near]
                scores += [factor * float(q[i] @ summaries[s][0]) for s in far]
                y = attended(scores, [v[j] for j in near] + [summaries[s][1] for s in far])
                expected[b, i] += w["wo"][:, h] @ y
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("segment", [1, COUNT])
@pytest.mark.parametrize("causal", [False, True])
def test_segments_of_one_token_or_of_all_are_full_attention(causal: bool, segment: int) -> None:
    found = drawn(Combiner(heads=2, qk=3, v=4, segment=segment), causal=causal)(tokens())
    visible = torch.ones(COUNT, COUNT).tril().bool()[None, None] if causal else None
    expected = drawn(Softmax(heads=2, qk=3, v=4))(tokens(), Context(visible=visible))
    torch.testing.assert_close(found, expected)


def test_looking_back_no_token_sees_what_follows() -> None:
    module, x = drawn(Combiner(heads=2, qk=3, v=4, segment=2), causal=True), tokens()
    other = x.clone()
    other[:, 3] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize(("count", "length"), [(6, 3), (8, 4), (7, 1), (3, 3)])
def test_segments_are_as_long_as_divides_the_tokens(count: int, length: int) -> None:
    """A token is seen by its own segment with its values alone, by others through what is the largest of several."""
    module = drawn(Combiner(heads=2, qk=3, v=4, segment=4), count=count)
    assert module.length == length
    assert module(tokens(count)).isfinite().all()
