from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.measures.readings import Reading, ratio
from wb.core.statistics.scores import score


def reading(value: float, low: float, high: float) -> Reading:
    return Reading(value=value, unit="ms", how="measured", interval=(low, high))


def share(right: int, of: int) -> Reading:
    return score(right, [0] * (of // 10) + list(range(1, of - of // 10 + 1)), "cpu")


@pytest.mark.parametrize(
    ("other", "same"), [((1.9, 2.5), True), ((2.1, 2.5), False), ((0.1, 5.0), True), ((0.1, 0.9), False)]
)
def test_readings_whose_intervals_touch_cannot_be_told_apart(other: tuple[float, float], same: bool) -> None:
    a, b = reading(1.5, 1.0, 2.0), reading(sum(other) / 2, *other)
    assert a.overlaps(b) is same
    assert b.overlaps(a) is same


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Reading(value=0.9876, unit="fraction", how="measured"), "98.76 %"),
        (Reading(value=2.0, unit="ms", how="predicted"), "~2 ms"),
        (reading(2.0, 1.9, 2.1), "2 ms ±5.0 %"),
        (share(122, 359), "33.98 % ±4.9 points"),
        (share(359, 359), "100.00 % -1.1/+0.0 points"),
        (share(0, 50), "0.00 % -0.0/+7.1 points"),
        (Reading(value=0.712, unit="x", how="measured", interval=(0.698, 0.726)), "0.712x ±2.0 %"),
        (Reading(value=1_254_000_000, unit="MAC", how="counted"), "1.254 G"),
        (Reading(value=12_345, unit="B", how="counted"), "12.35 kB"),
    ],
)
def test_text(given: Reading, text: str) -> None:
    assert given.text() == text


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_accuracy_is_said_within_what_is_possible(answers: tuple[int, int]) -> None:
    reading = share(*answers)
    assert reading.interval is not None
    if "±" in reading.text():
        half = float(reading.spread().removeprefix("±").removesuffix(" points"))
        assert half == pytest.approx(50 * (reading.interval[1] - reading.interval[0]), abs=0.051)
        assert 100 * reading.value - half + 0.05 >= 0
        assert 100 * reading.value + half - 0.05 <= 100
    else:
        down, up = reading.spread().removesuffix(" points").split("/")
        assert 100 * reading.value + float(down) == pytest.approx(100 * reading.interval[0], abs=0.051)
        assert 100 * reading.value + float(up) == pytest.approx(100 * reading.interval[1], abs=0.051)


def test_a_ratio_has_the_spreads_of_both() -> None:
    sure, unsure = reading(2, 2, 2), reading(1, 0.9, 1.1)
    assert ratio(sure, sure).interval == (1, 1)
    assert ratio(sure, unsure).interval == pytest.approx((2 / 1.1, 2 / 0.9))
    counted = Reading(value=3, unit="MAC", how="counted")
    assert (ratio(counted, counted).value, ratio(counted, counted).interval) == (1, None)


def test_json_keeps_everything() -> None:
    a = Reading(value=1.0, unit="ms", how="measured", interval=(0.9, 1.1), n=7, device="cpu", note="wide")
    assert Reading.model_validate_json(a.model_dump_json()) == a
