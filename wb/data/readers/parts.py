"""The result of every reader of a data format."""

from __future__ import annotations

from typing import NamedTuple

from wb.data.dataset import Split
from wb.data.stratify import carve


class Parts(NamedTuple):
    """Class names by label, the three splits (uint8), and notes for the user on how they were made."""

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()


def with_validation(classes: tuple[str, ...], train: Split, test: Split) -> Parts:
    """Parts of a data set without validation split: a stratified 10 % of training, at most 5,000, becomes validation."""
    train, validation = carve(train, 0.1, most=5000)
    return Parts(classes, train, validation, test)
