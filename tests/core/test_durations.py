from __future__ import annotations

import pytest

from wb.core.durations import duration
from wb.core.nearest import meant


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.0123, "12.3 ms"), (3.44, "3.4 s"), (42.4, "42 s"), (59.6, "1 min"), (125, "2 min 5 s")),
        *((1500, "25 min"), (3599, "1 h"), (9311, "2 h 35 min"), (86399, "1 d"), (100_000, "1 d 4 h")),
    ],
)
def test_a_duration_is_what_people_say(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_near_name_is_what_was_meant() -> None:
    assert meant("embd", ["depth", "embed"]) == " (did you mean 'embed'?)"
    assert meant("zzz", ["depth", "embed"]) == ""
