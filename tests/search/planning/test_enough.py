"""Finalists that get enough epochs: as many of the planned as the time trains for long enough, and never more epochs than fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.planning.test_shares import fake, plan
from wb.search.planning.enough import enough, epochs_left
from wb.search.planning.seconds import Size
from wb.search.planning.shares import READ, TimePlan

PLAN = plan(600, fake(0.004), Size(100, 100, 110))


def first(count: int, without: Collection[int]) -> Mapping[int, str]:
    """The first of nine candidates."""
    return dict.fromkeys([n for n in range(9) if n not in without][:count], "a finalist")


@given(st.lists(st.floats(0.5, 20), min_size=5, max_size=5), st.floats(800, 2000), st.integers(1, 5))
def test_finalists_are_left_out_until_the_rest_has_enough_epochs(
    each: list[float], seconds: float, fewest: int
) -> None:
    asked = PLAN.model_copy(update={"finalists": 5, "enough": 20, "fewest": fewest})
    found, epochs, _ = enough(asked, seconds, first, each.__getitem__)
    assert fewest <= len(found) <= 5
    assert epochs >= 20 or len(found) == fewest
    assert len(found) == 5 or epochs_left(each[: len(found) + 1], seconds, asked.costs.evaluation) < 20
    trained = epochs * sum(each[number] for number in found)
    assert epochs == 1 or trained <= seconds - READ * asked.costs.evaluation * len(found)


def test_finalists_that_were_asked_for_stay() -> None:
    asked = plan(600, fake(0.004), Size(100, 100, 110), finalists=7)
    assert (asked.fewest, PLAN.fewest) == (7, 3)
    assert 0 < PLAN.enough < PLAN.finetune


def test_the_time_that_is_left_is_shared_by_all() -> None:
    assert epochs_left([2.0], 100, 0) == 50
    assert epochs_left([2.0, 1.0], 100, 0) < epochs_left([2.0, 1.0], 200, 0) == pytest.approx(200 / 4.2, abs=1)
    assert epochs_left([2.0], 0, 1.0) == 1


def test_where_there_are_few_candidates_the_plan_still_wants_more() -> None:
    """A resumed search with more trials has them; the time did not take any away."""
    found = enough(PLAN, 1e6, lambda count, without: first(min(count, 2), without), lambda _: 1.0)
    assert len(found.finalists) == 2 < PLAN.finalists == found.settled(PLAN, 2).finalists
    assert found.settled(PLAN, 5).finalists == 2


def test_who_would_take_most_of_the_time_gives_way_where_there_are_others() -> None:
    asked = PLAN.model_copy(update={"finalists": 3, "enough": 20, "fewest": 3})
    each = [1.0, 40.0, 1.0, 30.0, 2.0, *[3.0] * 4]
    found, _, dear = enough(asked, 1000, first, each.__getitem__)
    assert (list(found), sorted(dear)) == ([0, 2, 4], [1, 3])
    assert first(3, dear) == found  # so that a resumed search has the same ones
    kept = enough(asked, 1000, first, each.__getitem__).settled(asked, 3)
    assert (kept.finalists, kept.dear, kept.settled) == (3, (1, 3), True)
    assert TimePlan.model_validate_json(kept.model_dump_json()) == kept
    found, epochs, dear = enough(asked, 1000, first, lambda _: 40.0)
    assert (list(found), epochs) == ([0, 1, 2], epochs_left([40.0] * 3, 1000, asked.costs.evaluation))
    assert not dear
