"""Halving finds what is to blame, and asks little where nothing is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from wb.compress.ptq.refused import refused


@given(st.lists(st.booleans(), max_size=40))
def test_the_culprits_are_found(guilty: list[bool]) -> None:
    bad = [str(i) for i, one in enumerate(guilty) if one]
    asked = []

    def works(some: Sequence[str]) -> bool:
        asked.append(list(some))
        return not set(some) & set(bad)

    assert refused([str(i) for i in range(len(guilty))], works) == bad
    assert len(asked) <= 1 + 2 * len(bad) * max(1, len(guilty).bit_length())


def test_what_fails_only_together_is_nobody_s_fault() -> None:
    assert refused(["a", "b"], lambda some: len(some) < 2) == []
