"""Differences of two models on the same images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wb.core.statistics.paired import Paired


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_difference_is_that_of_the_accuracies(pairs: list[tuple[bool, bool]]) -> None:
    one, other = zip(*pairs, strict=True)
    found = Paired.of(one, other)
    assert found.points == pytest.approx(100 * (np.mean(one) - np.mean(other)))
    assert Paired.of(other, one).points == -found.points
    low, high = found.interval
    back_low, back_high = Paired.of(other, one).interval
    assert [back_low, back_high] == pytest.approx([-high, -low])
    assert -100 <= low < high <= 100
    assert found.sure == (low > 0 or high < 0)


def test_the_interval_is_that_of_the_formula() -> None:
    """Wald's of counts with one more on either side, written out for 3 won, 10 lost of 100."""
    won, lost = 4 / 102, 11 / 102
    half = 1.959964 * math.sqrt((won + lost - (won - lost) ** 2) / 102)
    found = Paired(won=3, lost=10, n=100)
    assert list(found.interval) == pytest.approx([100 * (won - lost - half), 100 * (won - lost + half)], rel=1e-5)
    assert not found.sure
    assert Paired(won=0, lost=10, n=100).sure
    assert (
        found.text() == "-7.0 points, 95 % interval -14.2 to +0.5; 3 of 100 images are right only here, 10 only there"
    )


def test_the_interval_holds_what_it_should() -> None:
    """Of draws from a known population, about 95 in 100 intervals have its difference in them."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(300, (0.04, 0.07, 0.89), size=2000)
    inside = sum(
        low <= -3 <= high for low, high in (Paired(won=w, lost=m, n=300).interval for w, m, _ in draws.tolist())
    )
    assert 0.93 < inside / len(draws) < 0.98


def test_more_than_there_are_cannot_differ() -> None:
    with pytest.raises(ValidationError, match="3 won and 3 lost of 5 images"):
        Paired(won=3, lost=3, n=5)
