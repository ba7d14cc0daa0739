"""CKA against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wb.models.similarity import cka


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(x: Tensor, y: Tensor) -> float:
    """HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with the centring matrix written out."""
    n = len(x)
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    k, g = h @ x @ x.T @ h, h @ y @ y.T @ h
    return float((k @ g).trace() / ((k @ k).trace() * (g @ g).trace()).sqrt())


@pytest.mark.parametrize("shapes", [(30, 4, 6), (5, 12, 9), (7, 3, 20), (10, 10, 10)])
def test_cka_is_what_its_definition_says(shapes: tuple[int, int, int]) -> None:
    """Whichever form it takes."""
    rows, one, other = shapes
    x, y = normal(0, rows, one) + 3, normal(1, rows, other)
    assert cka(x, y) == pytest.approx(by_definition(x, y), rel=1e-9)
    assert cka(x, y) == pytest.approx(cka(y, x), rel=1e-9)


@given(rows=st.integers(3, 12), channels=st.integers(1, 6), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_cka_of_a_rotated_scaled_and_shifted_copy_is_one(rows: int, channels: int, scale: float, seed: int) -> None:
    x = normal(seed, rows, channels)
    rotation = torch.linalg.qr(normal(seed + 1, channels, channels)).Q
    assert cka(x, scale * x @ rotation + normal(seed + 2, channels)) == pytest.approx(1)


def test_cka_of_what_has_nothing_in_common_or_is_constant_is_zero() -> None:
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert cka(x, y) == 0
    assert cka(x, torch.full((4, 3), 0.1)) == 0
    assert cka(torch.full((10, 1), 0.1), normal(0, 10, 1)) == 0
