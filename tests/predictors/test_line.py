"""The line through traits: exact where values are sums of them, and as good for small values as for large ones."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from wb.predictors.line import Line


def test_a_sum_of_traits_is_found() -> None:
    rng = np.random.default_rng(0)
    traits = rng.random((30, 4)) * [1, 10, 1000, 1e6]
    values = traits @ [5, 1, 0.01, 1e-5] + 3
    fresh = rng.random((10, 4)) * [1, 10, 1000, 1e6]
    line = Line().fit(traits, values, values)
    assert line.predict(fresh) == pytest.approx(fresh @ [5, 1, 0.01, 1e-5] + 3, rel=1e-3)


def test_errors_are_relative_to_the_value() -> None:
    rng = np.random.default_rng(1)
    x = 10 ** rng.uniform(0, 3, (200, 1))
    values = x[:, 0] ** 1.1  # a line cannot have it everywhere
    line, plain = Line().fit(x, values, values), LinearRegression().fit(x, values)
    small = x[:, 0] < 30
    errors = [np.abs(model.predict(x)[small] / values[small] - 1).mean() for model in (line, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_values_of_zero_are_no_obstacle() -> None:
    line = Line().fit(np.arange(6.0)[:, None], np.zeros(6), np.zeros(6))
    assert line.predict(np.array([[2.0]])) == pytest.approx([0.0])
