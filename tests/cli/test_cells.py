"""Cells of narrow tables."""

from __future__ import annotations

import pytest

from wb.cli.frame.output import cell, row_title
from wb.core.measures.readings import Reading


@pytest.mark.parametrize(
    ("unit", "title", "spread"), [("fraction", "test\n± points", "±10.0"), ("ppl", "test\n±", "%")]
)
def test_the_spread_of_a_quality_is_in_what_the_title_says(unit: str, title: str, spread: str) -> None:
    reading = Reading(value=0.5, unit=unit, how="measured", interval=(0.4, 0.6), n=9)
    assert row_title("test", reading) == title
    assert cell(reading).endswith(spread)
