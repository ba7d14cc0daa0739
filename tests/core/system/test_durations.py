from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.core.nearest import meant
from wb.core.system.durations import duration, parse_duration

SECONDS = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86_400}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.012, "12 ms"),
        (3.4, "3.4 s"),
        (45, "45 s"),
        (59.7, "1 min"),
        (125, "2 min 5 s"),
        (200, "3 min 20 s"),
        (9311, "2 h 35 min"),
        (7200, "2 h"),
        (3599.6, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_times_that_people_read(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(1e-3, 1e7))
def test_what_is_said_is_what_was_given(seconds: float) -> None:
    words = duration(seconds).split()
    total = sum(float(count) * SECONDS[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    assert total == pytest.approx(seconds, rel=0.051, abs=0.051)
    assert len(words) <= 4


def test_a_near_name_is_what_was_meant() -> None:
    assert meant("embd", ["depth", "embed"]) == " (did you mean 'embed'?)"
    assert meant("zzz", ["depth", "embed"]) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10min", 600), ("1h", 3600), ("1h 30min", 5400), ("0.5 h", 1800), (" 2min5s", 125)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(2, 86_000))
def test_what_is_shown_is_read_again_about(seconds: int) -> None:
    assert parse_duration(duration(seconds)) == pytest.approx(seconds, rel=0.06)


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "0s", "-1h", "5 d", "1h,2min", "1e3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="10min"):
        parse_duration(text)
