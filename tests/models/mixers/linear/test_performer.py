"""Performer attention against its formula, token by token, and against the softmax attention that it estimates."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers import Performer
from wb.models.block import build_operator
from wb.models.mixers.linear.performer import PerformerAttention, orthogonal

EMBED, GRID = 10, Layout((2, 3), 1)


def module(record: Performer, seed: int = 0) -> PerformerAttention:
    """In float64, projections of the stream random, features as they are drawn."""
    torch.manual_seed(seed)
    built = build_operator(record, EMBED, GRID)
    built.reset()
    assert isinstance(built, PerformerAttention)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in built.double().named_parameters():
            if name != "projection":
                weight.normal_(0, 0.5, generator=generator)
    return built


def tokens(batch: int = 2) -> Tensor:
    return torch.randn(batch, GRID.tokens, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("scale", "form"), [(None, "alone"), (0.7, "alone"), (None, "official")])
def test_it_is_its_formula(scale: float | None, form: Literal["alone", "official"]) -> None:
    m, x = module(Performer(heads=3, qk=4, v=5, features=6, scale=scale, form=form)), tokens()
    w, root = {name: weight.detach() for name, weight in m.named_parameters()}, math.sqrt(scale or 4**-0.5)
    expected = w["bo"].expand_as(x).clone()
    exponents = {
        (b, h): max(
            float(row @ (w["wk"][h] @ token + w["bk"][h])) * root for row in w["projection"][h] for token in x[b]
        )
        for b in range(len(x))
        for h in range(3)
    }
    for b in range(len(x)):
        for h in range(3):
            q, k, v = (x[b] @ w[f"w{n}"][h].T + w[f"b{n}"][h] for n in "qkv")
            p = w["projection"][h]
            largest = max(exponents.values()) if form == "official" else exponents[b, h]

            def feature(row: Tensor, y: Tensor, c: float, root: float = root) -> float:
                return (math.exp(float(row @ y) * root - float(y @ y) * root**2 / 2 - c) + 1e-4) / math.sqrt(6)

            keys = [[feature(row, token, largest) for row in p] for token in k]
            for i, token in enumerate(q):
                c = max(float(row @ token) * root for row in p)
                query = [feature(row, token, c) for row in p]
                weights = [sum(a * b for a, b in zip(query, key, strict=True)) for key in keys]
                y = sum(share * value for share, value in zip(weights, v, strict=True)) / sum(weights)
                expected[b, i] += w["wo"][:, h] @ y
    torch.testing.assert_close(m(x), expected)


def test_many_features_estimate_the_weights_of_softmax_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error falls with the number of features, but for what is added to every one of them."""
    monkeypatch.setattr("wb.models.mixers.linear.performer.EPSILON", 0.0)
    q, k = torch.randn(2, 1, 2, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    q, k = q / q.norm(dim=3, keepdim=True) / 2, k / k.norm(dim=3, keepdim=True) / 2  # (B, H, N, K)
    errors = []
    for features in (4, 64, 4096):
        m = module(Performer(heads=2, qk=4, v=5, features=features))
        products = m.featured(q, (3,)) @ m.featured(k, (2, 3)).mT
        found = products / products.sum(dim=3, keepdim=True)
        errors.append(float((found - (q @ k.mT).softmax(dim=3)).abs().max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03


def test_rows_are_orthogonal_in_blocks_and_as_long_as_gaussian_ones() -> None:
    torch.manual_seed(0)
    rows = orthogonal(10, 4)
    for start in (0, 4, 8):
        gram = rows[start : start + 4] @ rows[start : start + 4].T
        torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-5)
    lengths = orthogonal(4000, 4).square().sum(dim=1)
    assert float(lengths.mean()) == pytest.approx(4, rel=0.1)  # chi-squared with four degrees of freedom
    assert float(lengths.var()) == pytest.approx(8, rel=0.2)


def test_large_keys_neither_overflow_nor_leave_nothing() -> None:
    m = module(Performer(heads=2, qk=4, v=5, features=6)).float()
    assert torch.isfinite(m(1e3 * tokens().float())).all()


def test_no_gradient_reaches_the_features() -> None:
    m = module(Performer(heads=2, qk=4, v=5, features=6))
    m(tokens()).sum().backward()
    assert m.projection.grad is None
    assert m.constants == ["projection"]
    assert m.wk.grad is not None
    assert float(m.wk.grad.abs().max()) > 0
