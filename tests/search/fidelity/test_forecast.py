"""The forecast: it favours larger networks where they have gained more, and leaves readings in their order elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from wb.search.fidelity.forecast import FEWEST, Floats, predicted


def curves(seed: int, count: int, epochs: float, noise: float = 0.01) -> tuple[Floats, list[Floats], Floats]:
    """Networks whose errors fall with training, those of larger ones further and later: work, two readings, the last truth."""
    rng = np.random.default_rng(seed)
    work = 10 ** rng.uniform(4, 7, count)
    size = np.log(work / 1e4) / 7

    def quality(after: float) -> Floats:
        return np.asarray(0.4 + 0.45 * size - (0.25 + 0.1 * size) / (1 + after) ** 0.5)

    readings = [quality(after) + noise * rng.standard_normal(count) for after in (1, 3)]
    return work, readings, quality(epochs)


def test_it_ranks_better_than_the_last_reading_where_larger_networks_need_longer() -> None:
    gains = []
    for seed in range(30):
        work, readings, truth = curves(seed, 24, 60, noise=0.03)
        gains.append(kendalltau(predicted(work, readings), truth).statistic - kendalltau(readings[-1], truth).statistic)
    assert np.mean(gains) > 0.01
    assert np.mean(np.array(gains) < -0.05) < 0.1


@given(st.integers(0, 1000))
def test_without_a_trend_in_the_gains_the_order_is_that_of_the_last_reading(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = rng.uniform(0.5, 0.9, 20)
    last = 1 - 0.8 * (1 - before)  # all errors fall alike
    found = predicted(10 ** rng.uniform(4, 7, 20), [before, last])
    assert np.array_equal(np.argsort(found), np.argsort(last))


@given(st.integers(0, 1000))
def test_smaller_networks_that_gained_more_are_not_favoured_for_that(seed: int) -> None:
    rng = np.random.default_rng(seed)
    work, before = 10 ** rng.uniform(4, 7, 20), rng.uniform(0.5, 0.9, 20)
    last = 1 - (1 - before) * np.exp(-1 / np.log(work))
    found = predicted(work, [before, last])
    assert np.array_equal(np.argsort(found), np.argsort(last))


def test_it_is_a_quality_and_no_worse_than_the_last_reading() -> None:
    work, readings, _ = curves(0, 20, 60)
    found = predicted(work, readings)
    assert ((found > 0) & (found < 1)).all()
    assert found.mean() >= readings[-1].mean()


def test_few_networks_and_networks_of_one_size_are_as_they_were_read() -> None:
    few, alike = np.linspace(0.4, 0.8, FEWEST - 1), np.linspace(0.4, 0.8, 12)
    assert np.array_equal(predicted(10 ** np.arange(1.0, FEWEST), [few / 2, few]), few)
    assert np.array_equal(predicted(np.full(12, 1e5), [alike / 2, alike]), alike)
    perfect = np.ones(12)
    assert predicted(10 ** np.linspace(4, 6, 12), [alike, perfect]) == pytest.approx(perfect, abs=2e-3)
