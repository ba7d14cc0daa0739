"""Ridge regression against least squares on augmented rows and scikit-learn's; moments by what they are afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as Oracle
from torch import Tensor

from wb.training.refit.fits import Fit, Moments, Ridge


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(fit: Fit, x: Tensor, outputs: list[tuple[float, Tensor]], offset: Tensor | float = 0.0) -> Fit:
    """In two uneven parts."""
    for part in (slice(0, 5), slice(5, None)):
        owed = offset[part] if isinstance(offset, Tensor) else offset
        fit.add(x[part], [(share, y[part]) for share, y in outputs], owed)
    return fit


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(6, 30),
    inputs=st.integers(1, 8),
    strength=st.sampled_from([1e-3, 0.1, 10]),
    seed=st.integers(0, 99),
)
def test_a_ridge_is_the_least_of_its_sum_of_squares(rows: int, inputs: int, strength: float, seed: int) -> None:
    x, y, z = normal(seed, rows, inputs) + 2, normal(seed + 1, rows, 3), normal(seed + 2, rows, 3)
    weight, bias, owed = normal(seed + 3, 3, inputs), normal(seed + 4, 3), normal(seed + 5, rows, 3)
    target = 0.25 * y + 0.75 * z + owed
    w, b = fitted(Ridge(weight, bias, strength), x, [(0.25, y), (0.75, z)], owed).solve()
    penalty = strength * float((x - x.mean(0)).square().sum(0).mean())
    a = np.block([[x.numpy(), np.ones((rows, 1))], [penalty**0.5 * np.eye(inputs), np.zeros((inputs, 1))]])
    stacked = np.concatenate([target.numpy(), penalty**0.5 * weight.T.numpy()])
    expected = np.linalg.lstsq(a, stacked, rcond=None)[0]
    np.testing.assert_allclose(w.numpy(), expected[:-1].T, atol=1e-8)
    np.testing.assert_allclose(b.numpy(), expected[-1], atol=1e-8)
    oracle = Oracle(alpha=penalty).fit(x.numpy(), (target - x @ weight.T).numpy())
    np.testing.assert_allclose((w - weight).numpy(), oracle.coef_, atol=1e-8)
    np.testing.assert_allclose(b.numpy(), oracle.intercept_, atol=1e-8)


@pytest.mark.parametrize("strength", [1e-6, 1.0])
@pytest.mark.parametrize("rows", [6, 40])
def test_what_fits_already_stays(rows: int, strength: float) -> None:
    """However few the rows, and however strong the pull."""
    x, weight, bias = normal(0, rows, 9), normal(1, 4, 9), normal(2, 4)
    w, b = fitted(Ridge(weight, bias, strength), x, [(1.0, x @ weight.T + bias)]).solve()
    torch.testing.assert_close(w, weight)
    torch.testing.assert_close(b, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [torch.zeros(9, 3), torch.full((9, 3), 7.1), torch.eye(3).repeat(3, 1) + 1000])
def test_inputs_that_hardly_vary_leave_the_weight(x: Tensor, dtype: torch.dtype) -> None:
    weight, bias = normal(1, 4, 3).to(dtype), normal(2, 4).to(dtype)
    y = x.to(dtype) @ weight.T + bias
    w, b = fitted(Ridge(weight, bias, 1e-3), x.to(dtype), [(1.0, y)]).solve()
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(w, weight.double(), rtol=0, atol=tolerance)
    torch.testing.assert_close(x.double() @ w.T + b, y.double(), rtol=0, atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.floats(0.1, 1), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_moments_are_the_averages_afterwards(shares: list[float], seed: int) -> None:
    x, weight, bias = normal(seed, 40, 5), normal(seed + 1, 3, 5), normal(seed + 2, 3)
    given = [(s / sum(shares), (i + 1) * normal(seed + 3 + i, 40, 3) - i) for i, s in enumerate(shares)]
    w, b = fitted(Moments(weight, bias), x, given).solve()
    y = x @ w.T + b
    torch.testing.assert_close(y.mean(0), torch.stack([s * z.mean(0) for s, z in given]).sum(0))
    deviations = torch.stack([s * z.std(0, correction=0) for s, z in given]).sum(0)
    torch.testing.assert_close(y.std(0, correction=0), deviations)
    torch.testing.assert_close(w / w.norm(dim=1, keepdim=True), weight / weight.norm(dim=1, keepdim=True))


def test_an_output_that_does_not_vary_is_only_shifted() -> None:
    x, weight = normal(0, 12, 2), torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double()
    w, b = fitted(Moments(weight, torch.zeros(2)), x, [(1.0, normal(1, 12, 2) + 3)]).solve()
    assert torch.equal(w[0], weight[0])
    assert float(b[0]) == pytest.approx(float(normal(1, 12, 2)[:, 0].mean() + 3))


@pytest.mark.parametrize("strength", [1e-3, 10])
def test_a_ridge_without_a_bias_is_the_least_of_its_sum_of_squares(strength: float) -> None:
    x, y, weight = normal(0, 20, 4) + 2, normal(1, 20, 3) - 1, normal(2, 3, 4)
    w, b = fitted(Ridge(weight, None, strength), x, [(1.0, y)]).solve()
    penalty = strength * float(x.square().sum(0).mean())
    a = np.concatenate([x.numpy(), penalty**0.5 * np.eye(4)])
    expected = np.linalg.lstsq(a, np.concatenate([y.numpy(), penalty**0.5 * weight.T.numpy()]), rcond=None)[0]
    np.testing.assert_allclose(w.numpy(), expected.T, atol=1e-8)
    assert not b.any()


def test_moments_without_a_bias_are_scaled_only() -> None:
    x, weight, y = normal(0, 40, 5) + 1, normal(1, 3, 5), 2 * normal(2, 40, 3)
    w, b = fitted(Moments(weight, None), x, [(1.0, y)]).solve()
    assert not b.any()
    torch.testing.assert_close((x @ w.T).std(0), y.std(0))
