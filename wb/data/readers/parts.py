"""The result of every reader of a data format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wb.core.errors import BadData
from wb.data.dataset import Split
from wb.data.readers.numbers import UNLABELLED
from wb.data.stratify import carve

ROLES = ("train", "validation", "test")
NAMES: Mapping[str, tuple[str, ...]] = {  # what splits are called, in any case
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class Parts(NamedTuple):
    """Class names by label, the three splits (uint8), and notes for the user on how they were made.

    `sources` says of each split where its images come from: `test/`, or `cut from train/`.
    """

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()
    sources: tuple[str, str, str] = ("", "", "")


def with_validation(
    classes: tuple[str, ...], train: Split, test: Split, called: tuple[str, str] = ("train", "test")
) -> Parts:
    """Parts of a data set without validation split: a stratified 10 % of training, at most 5,000, becomes validation.

    The two that are there are `called` so.
    """
    train, validation = carve(train, 0.1, most=5000)
    return Parts(classes, train, validation, test, (), (called[0], f"cut from {called[0]}", called[1]))


def divided(classes: tuple[str, ...], splits: Mapping[str, tuple[str, Split]], place: str) -> Parts:
    """The three splits from those that there are, each with what it is called, by `ROLES`; training is among them.

    With training alone the images are split into 70 % training, 15 % validation and 15 % test. If one of the other two is
    missing, 10 % of training (at most 5,000) are used for it. All splits are stratified. A note says what the files of `place`
    do not show.
    """
    name, train = splits["train"]
    own = [splits.get(role) for role in ROLES[1:]]
    if own[0] is not None and own[1] is not None:
        (first, validation), (second, test) = own[0], own[1]
        return Parts(classes, train, validation, test, (), (name, first, second))
    if own[1] is not None:
        return with_validation(classes, train, own[1][1], (name, own[1][0]))
    if own[0] is not None:
        train, test = carve(train, 0.1, most=5000)
        kept = (
            f"there is no test split in {place}: {len(test):,} {test.noun} of {name} are kept for it and not trained on"
        )
        return Parts(classes, train, own[0][1], test, (kept,), (name, own[0][0], f"cut from {name}"))
    rest, test = carve(train, 0.15)
    train, validation = carve(rest, 0.15 / 0.85)
    sizes = f"{len(train):,} for training, {len(validation):,} for validation, {len(test):,} for the test"
    note = f"{place} has {name} alone, which is split: {sizes}"
    return Parts(classes, train, validation, test, (note,), (name, *(f"cut from {name}",) * 2))


def labelled(splits: Mapping[str, tuple[str, Split]], place: str) -> tuple[dict[str, tuple[str, Split]], list[str]]:
    """The splits with their names, by role, without images that have no label, and notes on those.

    Data sets keep some labels secret, most often all of the test split, which is then left out.

    Raises:
        BadData: no image for training has a label.
    """
    found: dict[str, tuple[str, Split]] = {}
    notes = []
    for role, (name, split) in splits.items():
        known = np.flatnonzero(split.labels != UNLABELLED)
        missing = len(split) - len(known)
        if missing:
            notes.append(f"{missing:,} of {len(split):,} images of {name} have no label and are left out")
        if len(known):
            found[role] = (name, split.take(known) if missing else split)
    if "train" not in found:
        raise BadData(f"{place} has no image for training with a label; name the array or column that has them")
    return found, notes
