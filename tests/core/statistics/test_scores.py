"""Accuracies, and what they are worth beside the share of the largest class."""

from __future__ import annotations

import pytest

from wb.core.statistics.scores import score


@pytest.mark.parametrize(
    ("right", "labels", "said"),
    [
        (963, [3] * 963 + [0] * 37, "96.30 %"),  # always says 3
        (990, [3] * 963 + [0] * 37, "96.30 %"),
        (100, [*range(10)] * 100, "10.00 %"),  # at chance
        (50, [*range(10)] * 100, "10.00 %"),  # and below
        (977, [*range(10)] * 100, None),
        (340, [*range(10)] * 100, None),
        (60, [0, 1] * 50, "50.00 %"),
    ],
)
def test_the_share_of_the_largest_class_is_said_where_it_is_near(
    right: int, labels: list[int], said: str | None
) -> None:
    reading = score(right, labels, "cpu")
    assert (reading.value, reading.n) == (right / len(labels), len(labels))
    assert reading.note == (said and f"always naming the largest class would give {said}")
