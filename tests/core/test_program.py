"""The integer program against trying every choice."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.program import Item, Items, solve, useful

costs = st.fixed_dictionaries({"macs": st.integers(0, 50), "latency": st.integers(-3, 9)})
errors = st.one_of(st.just(0.0), st.builds(lambda a, b: a * 10.0**-b, st.floats(1, 9.9), st.integers(0, 8)))
of_place = st.lists(st.tuples(errors, costs), min_size=1, max_size=4).map(
    lambda found: [Item(str(i), error, cost) for i, (error, cost) in enumerate(found)]
)
problems = st.lists(of_place, min_size=1, max_size=4).map(
    lambda found: {f"p{i}": items for i, items in enumerate(found)}
)
limits = st.fixed_dictionaries({}, optional={"macs": st.integers(0, 150), "latency": st.integers(-6, 20)})


def brute(items: Items, most: dict[str, int]) -> float:
    """The least error of all choices; infinite where there is none."""
    found = [
        sum(item.error for item in choice)
        for choice in itertools.product(*items.values())
        if all(sum(item.costs[metric] for item in choice) <= limit for metric, limit in most.items())
    ]
    return min(found, default=math.inf)


@given(problems, limits)
def test_no_choice_is_better(items: dict[str, list[Item]], most: dict[str, int]) -> None:
    found, best = solve(items, most), brute(items, most)
    assert (found is None) == (best == math.inf)
    if found is not None:
        assert found.keys() == items.keys()
        assert all(sum(item.costs[metric] for item in found.values()) <= limit for metric, limit in most.items())
        assert sum(item.error for item in found.values()) == pytest.approx(best, rel=1e-4)


def test_further_solutions_differ_in_two_places_and_are_no_better() -> None:
    items = {f"p{i}": [Item("a", 0.0, {"macs": 2}), Item("b", 0.1 * (i + 1), {"macs": 1})] for i in range(4)}
    tried: list[dict[str, str]] = []
    totals = []
    for _ in range(4):
        found = solve(items, {"macs": 6}, tried)
        assert found is not None
        names = {place: item.name for place, item in found.items()}
        assert all(sum(names[place] != other[place] for place in names) >= 2 for other in tried)
        tried.append(names)
        totals.append(sum(item.error for item in found.values()))
    assert totals == sorted(totals)
    assert totals[0] == pytest.approx(0.3), "the first two"


def test_what_another_is_as_good_as_and_no_dearer_is_left_out() -> None:
    cheap, dear, worse = (
        Item("cheap", 1.0, {"macs": 1}),
        Item("dear", 0.0, {"macs": 2}),
        Item("worse", 1.0, {"macs": 2}),
    )
    assert useful([worse, cheap, dear], ["macs"]) == [dear, cheap]
