"""What every reader of a format returns."""

from __future__ import annotations

from typing import NamedTuple

from wb.data.dataset import Split
from wb.data.stratify import carve


class Parts(NamedTuple):
    """Class names by label, the three splits, uint8, and what a user should know about how they came to be."""

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()


def with_validation(classes: tuple[str, ...], train: Split, test: Split) -> Parts:
    """For sets that publish training and test only: a stratified 10 % of training, at most 5,000, is validation."""
    train, validation = carve(train, 0.1, most=5000)
    return Parts(classes, train, validation, test)
