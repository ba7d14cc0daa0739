"""The Gaussian process against fits that really leave samples out, and against a product that no line can see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression

from wb.predictors.process import GaussianProcess


def sample(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    columns = np.random.default_rng(seed).normal(size=(count, 3))
    return columns, columns[:, 0] * columns[:, 1] + 0.5 * columns[:, 2]


def oracle(process: GaussianProcess, columns: np.ndarray) -> KernelRidge:
    """Kernel ridge regression has the mean of a Gaussian process."""
    median, size = np.median(pdist(columns, "sqeuclidean")), (columns**2).sum() / len(columns)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        radial = np.exp(-((a - b) ** 2).sum() / (2 * process.width**2 * median))
        return float(process.share * (a @ b) / size + (1 - process.share) * radial)

    return KernelRidge(alpha=process.noise, kernel=kernel)


def test_it_agrees_with_kernel_ridge_regression() -> None:
    columns, target = sample(40)
    process = GaussianProcess().fit(columns, target)
    fresh, _ = sample(20, seed=1)
    expected = oracle(process, columns).fit(columns, target).predict(fresh)
    assert process.predict(fresh) == pytest.approx(expected, abs=1e-6)


def test_held_out_folds_are_predicted_as_if_they_had_been_left_out() -> None:
    columns, target = sample(40)
    process = GaussianProcess().fit(columns, target)
    folds = np.array_split(np.random.default_rng(2).permutation(40), 4)
    predicted = process.held_out(folds)
    for fold in folds:
        rest = np.setdiff1d(np.arange(40), fold)
        left_out = oracle(process, columns).fit(columns[rest], target[rest])
        assert predicted[fold] == pytest.approx(left_out.predict(columns[fold]), abs=1e-6)


def test_products_are_learnt() -> None:
    columns, target = sample(80)
    fresh, true = sample(200, seed=1)
    errors = [
        np.mean((model.fit(columns, target).predict(fresh) - true) ** 2)
        for model in (GaussianProcess(), LinearRegression())
    ]
    assert errors[0] < 0.1 * errors[1]


def test_constant_columns_and_values_are_no_obstacle() -> None:
    process = GaussianProcess().fit(np.zeros((5, 2)), np.zeros(5))
    assert process.predict(np.ones((3, 2))).tolist() == [0.0] * 3


def test_families_that_do_not_matter_do_not_keep_samples_apart() -> None:
    rng = np.random.default_rng(3)
    columns, fresh = rng.normal(size=(80, 12)), rng.normal(size=(200, 12))
    families = np.array([0, 0, 1, *[2] * 9])  # two that multiply, one that adds, nine of no use

    def true(c: np.ndarray) -> np.ndarray:
        return np.asarray(c[:, 0] * c[:, 1] + 0.5 * c[:, 2])

    told = GaussianProcess(families).fit(columns, true(columns))
    blind = GaussianProcess().fit(columns, true(columns))
    assert told.relevance[2] == min(told.relevance) < 1
    told_error, blind_error = (np.mean((m.predict(fresh) - true(fresh)) ** 2) for m in (told, blind))
    assert told_error < 0.3 * blind_error


def test_relevances_are_factors_of_the_columns() -> None:
    columns, target = sample(40)
    families = np.array([0, 0, 1])
    process = GaussianProcess(families).fit(columns, target)
    scaled = columns * process.relevance[families]
    fresh, _ = sample(20, seed=1)
    expected = oracle(process, scaled).fit(scaled, target).predict(fresh * process.relevance[families])
    assert process.predict(fresh) == pytest.approx(expected, abs=1e-6)


def test_noise_alone_moves_no_relevance() -> None:
    rng = np.random.default_rng(4)
    moved = 0
    for _ in range(10):
        process = GaussianProcess(np.arange(6)).fit(rng.normal(size=(60, 6)), rng.normal(size=60))
        moved += int((process.relevance != 1).sum())
    assert moved <= 6  # of 60: each has to be worth a parameter


def test_relevances_of_many_samples_come_from_some_of_them() -> None:
    rng = np.random.default_rng(5)
    columns = rng.normal(size=(450, 4))
    process = GaussianProcess(np.array([0, 0, 1, 1])).fit(columns, columns[:, 0] * columns[:, 1])
    assert process.relevance[1] < process.relevance[0]
