"""Rungs: what is read is what is written, sizes fall and epochs grow, and nothing is trained that is not worth it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.search.fidelity.rungs import LAST, WORTH, Rung, automatic, parse_rungs, rungs_text


def test_rungs_are_read_and_written() -> None:
    assert parse_rungs("60x1, 20x3") == (Rung(60, 1), Rung(20, 3))
    assert parse_rungs("none") == ()
    assert rungs_text(()) == "none"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("60", "'60' is no rung"),
        ("0x1", "'0x1' is no rung"),
        ("60x1,20y3", "'20y3' is no rung"),
        ("", "has no rung"),
        ("20x1,60x3", "rung 60x3 does not have fewer candidates"),
        ("60x3,20x3", "rung 20x3 does not have fewer candidates and more epochs than 60x3"),
    ],
)
def test_what_are_no_rungs_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        parse_rungs(text)


@given(st.integers(1, 500), st.integers(1, 24), st.integers(0, 40))
def test_automatic_rungs_leave_a_choice_and_cost_less_than_the_finalists_do(
    trials: int, finalists: int, finetune: int
) -> None:
    rungs = automatic(trials, finalists, finetune)
    assert parse_rungs(rungs_text(rungs)) == rungs
    assert all(finalists < rung.candidates <= trials for rung in rungs)
    assert all(WORTH * rung.epochs <= finetune for rung in rungs)
    assert all(rung.candidates >= LAST * finalists or rung.candidates == trials for rung in rungs)


def test_a_usual_search_has_two_rungs_and_a_quick_one_none() -> None:
    assert rungs_text(automatic(100, 10, 20)) == "40x1,20x3"
    assert automatic(100, 10, 1) == automatic(100, 10, 0) == automatic(10, 10, 20) == ()
