"""The forecast: it favours larger networks where they have gained more, and leaves readings in their order elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from wb.search.fidelity.forecast import FEWEST, SLOPE, Floats, predicted


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


@given(st.integers(0, 1000), st.floats(0.2, 5.0))
def test_of_networks_that_read_alike_the_larger_will_be_better(seed: int, gained: float) -> None:
    """Unless smaller ones gain faster by much, and then they are not favoured either."""
    rng = np.random.default_rng(seed)
    work = np.sort(10 ** rng.uniform(4, 7, 20))
    last = np.full(20, 0.7)
    found = predicted(work, [1 - 0.3 * np.exp(0.01 * gained * np.log(work)), last])
    assert (np.diff(found) >= -1e-12).all()
    assert (np.diff(predicted(work, [last - 0.2, last])) > 0).all()


@given(st.integers(0, 1000))
def test_networks_of_one_size_keep_the_order_of_their_last_readings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, last = rng.uniform(0.3, 0.5, 20), rng.uniform(0.5, 0.9, 20)
    found = predicted(np.full(20, 1e6), [before, last])
    assert np.array_equal(np.argsort(found), np.argsort(last))


def test_gains_that_grow_with_size_are_believed_the_more_the_less_they_scatter() -> None:
    rng = np.random.default_rng(0)
    work = np.exp(np.linspace(9, 16, 30))
    last = 1 - 0.4 * np.ones(30)

    def steepness(scatter: float) -> float:
        gain = -0.3 * np.log(work / work.mean()) + scatter * rng.standard_normal(30)
        found = predicted(work, [1 - (1 - last) * np.exp(-gain), last])
        return float(np.log(1 - found[-1]) - np.log(1 - found[0]))

    sure, unsure = steepness(0.0), steepness(3.0)
    assert sure < unsure < 0


def test_it_is_a_quality_and_no_worse_than_the_last_reading() -> None:
    work, readings, _ = curves(0, 20, 60)
    found = predicted(work, readings)
    assert ((found > 0) & (found < 1)).all()
    assert found.mean() >= readings[-1].mean()


def test_few_networks_follow_the_usual_slope_alone() -> None:
    work, alike = 10 ** np.arange(1.0, FEWEST), np.full(FEWEST - 1, 0.5)
    found = predicted(work, [alike, alike])
    assert np.diff(np.log(1 - found)) == pytest.approx(SLOPE * np.log(10))
    perfect = np.ones(12)
    assert predicted(10 ** np.linspace(4, 6, 12), [np.full(12, 0.5), perfect]) == pytest.approx(perfect, abs=2e-3)
