"""Policies against trying every choice."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.compress.ptq.policy import Option, Options, solve

FLOAT = Option("fp32", 0.0, 0, 0.0)
errors = st.one_of(st.just(0.0), st.builds(lambda a, b: a * 10.0**-b, st.floats(1, 9.9), st.integers(0, 10)))
low = st.builds(Option, st.sampled_from(["int8", "int4"]), errors, st.integers(-50, 1000), st.integers(-3, 9))
groups = st.lists(st.lists(low, max_size=2).map(lambda found: [FLOAT, *found]), min_size=1, max_size=5)
problems = groups.map(lambda found: {f"g{i}": options for i, options in enumerate(found)})
least = st.one_of(st.none(), st.integers(-10, 2000))


def brute(options: Options, saved: float | None, faster: float | None) -> float:
    """The least error of all choices; infinite where there is none."""
    best = math.inf
    for choice in itertools.product(*options.values()):
        enough = saved is None or sum(option.saved for option in choice) >= saved
        if enough and (faster is None or sum(option.faster for option in choice) >= faster):
            best = min(best, sum(option.error for option in choice))
    return best


@given(problems, least, st.one_of(st.none(), st.integers(-5, 20)))
def test_no_choice_is_better(options: dict[str, list[Option]], saved: int | None, faster: int | None) -> None:
    found, best = solve(options, saved=saved, faster=faster), brute(options, saved, faster)
    assert (found is None) == (best == math.inf)
    if found is not None:
        assert all(option in options[group] for group, option in found.items())
        assert found.keys() == options.keys()
        assert saved is None or sum(option.saved for option in found.values()) >= saved
        assert faster is None or sum(option.faster for option in found.values()) >= faster
        assert sum(option.error for option in found.values()) == pytest.approx(best, rel=1e-4)


def test_nothing_is_quantized_without_need() -> None:
    """Not even what costs no error."""
    free = Option("int8", 0.0, 100, 1.0)
    options = {"a": [FLOAT, free], "b": [FLOAT, free]}
    assert solve(options) == {"a": FLOAT, "b": FLOAT}
    assert solve(options, saved=100) in ({"a": FLOAT, "b": free}, {"a": free, "b": FLOAT}, {"a": free, "b": free})


def test_small_errors_count_beside_large_ones() -> None:
    """A solver with absolute tolerances would not tell the two small ones apart."""
    options = {
        "bad": [FLOAT, Option("int4", 5.0, 10)],
        "a": [FLOAT, Option("int8", 2e-9, 10)],
        "b": [FLOAT, Option("int8", 1e-9, 10)],
    }
    found = solve(options, saved=10)
    assert found is not None
    assert [group for group, o in found.items() if o is not FLOAT] == ["b"]
