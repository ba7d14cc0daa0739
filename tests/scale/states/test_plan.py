from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.scale.states.plan import ATTACHED, PUBLISHED, Speeds, best, predicted, predicted_static

TRIED = Speeds(
    slow=1e6, fast=25e6, link=16e6
)  # of the methods page: 48 sub-groups in steps of .96 s by the slow device alone
GROUPS, SIZE = 48, 20_000


@pytest.mark.parametrize(
    ("link", "k", "seconds"),
    [(16e6, 0, 0.96), (16e6, 2, 0.48), (16e6, 3, 0.64), (8e6, 2, 0.84), (8e6, 3, 0.64), (5e6, 3, 1.02), (5e6, 5, 0.77)],
)
def test_steps_take_what_was_tried(link: float, k: int, seconds: float) -> None:
    found = predicted(Speeds(1e6, 25e6, link), GROUPS, SIZE, k)
    assert found == pytest.approx(seconds, rel=0.01)


def test_the_fastest_k_follows_from_the_link() -> None:
    links = (16e6, 8e6, 5e6)
    assert [best(Speeds(1e6, 25e6, link), GROUPS, SIZE) for link in links] == [2, 3, 5]
    assert best(Speeds(1e6, 25e6, 1e3), GROUPS, SIZE, traffic=ATTACHED) == 0


@given(st.floats(1e5, 1e9), st.floats(1e5, 1e9), st.floats(1e5, 1e9))
def test_none_is_faster_than_the_best_and_a_faster_link_is_no_slower(slow: float, fast: float, link: float) -> None:
    for traffic in (ATTACHED, PUBLISHED):
        speeds = Speeds(slow, fast, link)
        least = predicted(speeds, GROUPS, SIZE, best(speeds, GROUPS, SIZE, traffic=traffic), traffic=traffic)
        assert all(least <= predicted(speeds, GROUPS, SIZE, k, traffic=traffic) for k in range(17))
        doubled = Speeds(slow, fast, 2 * link)
        faster = predicted(doubled, GROUPS, SIZE, best(doubled, GROUPS, SIZE, traffic=traffic), traffic=traffic)
        assert faster <= least * (1 + 1e-9)


def test_a_static_share_takes_what_its_slower_half_takes() -> None:
    assert predicted_static(TRIED, GROUPS, SIZE, 0.2) == pytest.approx(0.768)
    assert predicted_static(TRIED, GROUPS, SIZE, 1.0) == pytest.approx(0.0384)


def test_rates_are_above_zero() -> None:
    with pytest.raises(BadOption, match="'link' is 0"):
        Speeds(1.0, 1.0, 0.0)
