"""The Gaussian process against fits that really leave samples out, and against a product that no line can see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression

import wb.predictors.process as process_module
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


def test_relevances_of_many_samples_come_from_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(5).normal(size=(90, 4))
    families = np.array([0, 0, 1, 1])
    target = columns[:, 0] * columns[:, 1]
    target[:60] = columns[:60, 2]  # what is seen by all and not by the last third
    monkeypatch.setattr(process_module, "JUDGES", 30)
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Last())
    process = GaussianProcess(families).fit(columns, target)
    monkeypatch.undo()
    judged = GaussianProcess(families).fit(columns[60:], target[60:])
    assert process.relevance.tolist() == judged.relevance.tolist()
    assert process.relevance.tolist() != GaussianProcess(families).fit(columns, target).relevance.tolist()


class Last:
    """A generator that draws the last ones."""

    def choice(self, some: np.ndarray, count: int, *, replace: bool) -> np.ndarray:
        return some[-count:]


@pytest.mark.parametrize("repeats", [6, 12, 24])
def test_repeated_samples_are_no_obstacle(repeats: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        columns = np.concatenate([np.repeat(rng.normal(size=(1, 9)), repeats, axis=0), rng.normal(size=(5, 9))])
        process = GaussianProcess(np.arange(9)).fit(columns, rng.normal(size=repeats + 5))
        assert np.isfinite(process.predict(columns)).all()
