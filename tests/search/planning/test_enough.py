"""Finalists that get enough epochs: as many of the planned as the time trains for long enough, and never more epochs than fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.search.planning.test_shares import fake, plan
from wb.search.planning.enough import ANSWER, enough, epochs_left
from wb.search.planning.seconds import Size, as_long
from wb.search.planning.shares import DEAREST, FIRST_MOST, READ, TUNED_MOST, TimePlan

PLAN = plan(600, fake(0.004), Size(100, 100, 110))


def first(count: int, without: Collection[int]) -> Mapping[int, str]:
    """The first of nine candidates."""
    return dict.fromkeys([n for n in range(9) if n not in without][:count], "a finalist")


def like(each: list[float]) -> Callable[[int], float]:
    """Work that goes with the time of a step."""
    return each.__getitem__


@given(st.lists(st.floats(0.5, 20), min_size=9, max_size=9), st.floats(800, 2000), st.integers(1, 5))
def test_finalists_are_left_out_until_the_rest_has_enough_epochs(
    each: list[float], seconds: float, fewest: int
) -> None:
    asked = PLAN.model_copy(update={"finalists": 5, "enough": 20, "fewest": fewest, "first": 1})
    found, largest, epochs, _ = enough(asked, seconds, first, each.__getitem__, like(each))
    assert fewest <= len(found) <= 5
    assert each[largest] == max(each[number] for number in found)
    assert epochs.others >= 20 or len(found) == fewest
    others = [each[number] for number in found if number != largest]
    trained = epochs.first * each[largest] + epochs.others * (sum(others) + ANSWER * each[largest] * bool(others))
    room = seconds - READ * asked.costs.evaluation * len(found)
    assert min(epochs) == 1 or trained <= room
    assert 1 in epochs or FIRST_MOST in epochs or trained >= room - each[largest]


def test_of_large_networks_for_few_epochs_and_small_ones_for_many_the_better_ones_are_taken() -> None:
    """Twice the work is worth more than twice the epochs, unless it costs much more time."""
    asked = PLAN.model_copy(update={"finalists": 2, "fewest": 2, "first": 100})
    work = [8e6, 4e6, 2e6, *[1e6] * 6]
    alike = [16.0, 8.0, 4.0, *[2.0] * 6]  # seconds that go with work: 37, 74, 148 epochs
    assert enough(asked, 600, first, alike.__getitem__, work.__getitem__).largest == 0
    dear = [16.0, 3.0, *alike[2:]]
    found = enough(asked, 600, first, dear.__getitem__, work.__getitem__)
    assert (found.largest, sorted(found.dear)) == (1, [0])


def test_finalists_that_were_asked_for_stay() -> None:
    asked = plan(600, fake(0.004), Size(100, 100, 110), finalists=7)
    assert (asked.fewest, PLAN.fewest) == (7, 3)
    assert 0 < PLAN.enough < PLAN.finetune


def test_the_largest_has_most_of_the_time_and_what_others_do_not_need() -> None:
    assert epochs_left(2.0, 0.0, 100) == (50, 50)
    assert epochs_left(2.0, 0.0, 0) == (1, 1)
    assert epochs_left(0.5, 0.4, 20_000) == (FIRST_MOST, TUNED_MOST)
    assert epochs_left(2.0, 3.2, 400) == (200 * DEAREST, 100 * (1 - DEAREST))  # 3.2 + 0.8 for its answers
    assert epochs_left(2.0, 0.2, 3000) == (FIRST_MOST, TUNED_MOST)
    assert epochs_left(2.0, 0.2, 1000) == ((1000 - TUNED_MOST) // 2, TUNED_MOST)
    assert epochs_left(40.0, 1.0, 1000) == (17, 17), "others that learn longer than their teacher gain little"


def test_where_there_are_few_candidates_the_plan_still_wants_more() -> None:
    """A resumed search with more trials has them; the time did not take any away."""
    found = enough(PLAN, 1e6, lambda count, without: first(min(count, 2), without), lambda _: 1.0, float)
    assert len(found.finalists) == 2 < PLAN.finalists == found.settled(PLAN, 2).finalists
    assert found.settled(PLAN, 5).finalists == 2


def test_who_would_take_most_of_the_time_gives_way_where_there_are_others() -> None:
    asked = PLAN.model_copy(update={"finalists": 3, "enough": 20, "fewest": 3, "first": 20})
    each = [1.0, 40.0, 1.0, 31.0, 2.0, *[3.0] * 4]

    def alike(number: int) -> float:
        """They take their time for little more work."""
        return 1e6 + each[number]

    found, largest, _, dear = enough(asked, 1000, first, each.__getitem__, alike)
    assert (list(found), largest, sorted(dear)) == ([0, 2, 4], 4, [1, 3])
    assert first(3, dear) == found  # so that a resumed search has the same ones
    kept = enough(asked, 1000, first, each.__getitem__, alike).settled(asked, 3)
    assert (kept.finalists, kept.dear, kept.settled) == (3, (1, 3), True)
    assert kept.first_epochs == kept.longest
    assert kept.first_epochs > kept.finetune
    assert TimePlan.model_validate_json(kept.model_dump_json()) == kept
    found, _, epochs, dear = enough(asked, 1000, first, lambda _: 40.0, lambda _: 1.0)
    assert (list(found), epochs.others) == ([0, 1, 2], epochs_left(40.0, 80.0, 1000 - 3 * READ * 0.8).others)
    assert not dear


def test_hands_save_what_they_can_and_no_more() -> None:
    """Beside the largest, which is trained alone; nothing takes less time than the longest of what is trained at once."""
    each = [1.0] * 9
    asked = PLAN.model_copy(update={"finalists": 4, "fewest": 4, "first": 10})

    def found(hands: int) -> float:
        one = enough(
            asked, 1000, lambda count, without: first(count, without), each.__getitem__, like(each), hands=hands
        )
        return one.epochs.first + one.epochs.others * (as_long([1.0] * 3, hands) + ANSWER)

    assert [found(hands) <= 1000 for hands in (1, 2, 16)] == [True] * 3
    assert as_long([1.0] * 3, 1) == 3
    assert 1.5 < as_long([1.0] * 3, 2) < 2
    assert 1 < as_long([1.0] * 3, 16) < 1.5
    assert as_long([5.0, 1.0], 16) == 5
    assert as_long([], 4) == 0


def test_what_is_trained_once_more_takes_as_long_again_but_for_the_largest_beside_another_process() -> None:
    asked = PLAN.model_copy(update={"finalists": 3, "enough": 1, "fewest": 3, "first": 1})
    each = [8.0, 2.0, 1.0, *[0.5] * 6]

    def found(hands: int, again: float) -> tuple[int, int]:
        return enough(asked, 2000, first, each.__getitem__, like(each), 0, hands, again).epochs

    once, twice = found(1, 0.0), found(1, 1.0)
    assert twice == enough(asked, 2000, first, [2 * one for one in each].__getitem__, like(each)).epochs
    assert twice[0] <= once[0] * 0.6
    alone, beside = found(2, 0.0), found(2, 1.0)
    assert beside[0] >= alone[0] * 0.8, "the others take more"
    assert beside[1] <= alone[1]
