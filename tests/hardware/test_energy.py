"""The energy model: cheaper arithmetic costs less, and sums are those of the published energies."""

from __future__ import annotations

import pytest

from wb.core.precision import PRECISIONS
from wb.hardware.energy import of_multiply_accumulate, picojoules


def test_energies_are_the_published_ones() -> None:
    assert picojoules(1) == pytest.approx(4.6)
    assert picojoules(1, "int8") == pytest.approx(0.3)
    assert picojoules(10, "fp32", additions=4) == pytest.approx(6 * 4.6 + 4 * 0.9)
    assert picojoules(0, "w1") == 0


def test_every_precision_has_one_and_none_costs_more_than_floating_point() -> None:
    energies = [of_multiply_accumulate(precision) for precision in PRECISIONS]
    assert all(0 < energy <= of_multiply_accumulate("fp32") for energy in energies)
