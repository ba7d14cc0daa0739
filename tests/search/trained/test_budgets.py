"""Budgets of several networks."""

from __future__ import annotations

import pytest

from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, Limit
from wb.search.trained.budgets import ladder, name_of, parse_points
from wb.search.trained.config import configured


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["latency=0.5x,0.3x"], ["latency-0.5x", "latency-0.3x"]),
        (["latency=0.5x", "macs=2M"], ["latency-0.5x-macs-2e+06"]),
        (["macs=0.5x, 0.25x", "size=1MB"], ["macs-0.5x-size-1e+06B", "macs-0.25x-size-1e+06B"]),
        (["latency=2ms"], ["latency-2ms"]),
    ],
)
def test_a_value_without_a_name_is_one_more_network(texts: list[str], names: list[str]) -> None:
    assert [name_of(point) for point in parse_points(texts)] == names


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["0.5x"], "is no budget"),
        (["latency=0.5x,0.3x", "macs=0.5x,0.4x,0.3x"], "2 on latency and 3 on macs"),
        (["latency=0.5x,0.5x"], "comes twice"),
        (["acc=0.9"], "cannot be aimed at"),
        ([","], "is no budget"),
    ],
)
def test_what_is_no_budget(texts: list[str], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        parse_points(texts)


def test_a_front_has_equal_ratios_and_ends_above_the_least() -> None:
    macs = METRICS["macs"]
    found = ladder(3, Limit(macs, 0.125, relative=True), 100, 1)
    assert [limit.value for (limit,) in found] == pytest.approx([0.5, 0.25, 0.125])
    assert ladder(2, Limit(macs, 10), 100, 20)[-1][0].value == pytest.approx(0.22)
    with pytest.raises(BadOption, match="is at it already"):
        ladder(2, Limit(macs, 10), 100, 95)
    with pytest.raises(BadOption, match="too near to each other"):
        ladder(100, Limit(macs, 0.95, relative=True), 100, 1)


def test_options_of_other_searches_are_refused() -> None:
    assert configured({"front": 3, "budget": ["macs=0.1x"]}).front == 3
    for given, option in ({"trials": 3}, "--trials"), ({"changes": {"embed": "3"}}, "--set"):
        with pytest.raises(BadOption, match=f"{option} is of searches with a supernet"):
            configured(given)
    with pytest.raises(BadOption, match="--front goes down to one budget"):
        configured({"front": 3, "budget": ["macs=0.1x,0.2x"]})
