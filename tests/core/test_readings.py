from __future__ import annotations

import pytest

from wb.core.readings import Reading


def reading(value: float, low: float, high: float) -> Reading:
    return Reading(value=value, unit="ms", how="measured", interval=(low, high))


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
        (Reading(value=1_254_000_000, unit="MAC", how="counted"), "1.254 G"),
        (Reading(value=12_345, unit="B", how="counted"), "12.35 kB"),
    ],
)
def test_text(given: Reading, text: str) -> None:
    assert given.text() == text


def test_json_keeps_everything() -> None:
    a = Reading(value=1.0, unit="ms", how="measured", interval=(0.9, 1.1), n=7, device="cpu", note="wide")
    assert Reading.model_validate_json(a.model_dump_json()) == a
