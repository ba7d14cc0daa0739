"""What timed steps tell of the costs of others."""

from __future__ import annotations

import pytest

from tests.networks import of_digits
from wb.models.counting import count_macs
from wb.search.planning.costs import _slope


def test_the_cheapest_work_is_told_by_steps_that_stand_out() -> None:
    """One that takes hardly longer than the smallest network's, or less, says nothing; without others nothing is known."""
    a, b, c = (of_digits(depth=depth) for depth in (1, 2, 3))
    assert _slope(0.01, {a: 0.011, b: 0.03, c: 0.02}) == pytest.approx(0.01 / count_macs(c).value)
    assert _slope(0.01, {a: 0.009, b: 0.0101}) == 0
