"""The images that rank candidates: how many there are, what difference they can tell, and how more of them are got.

Finalists are judged on the validation split as it is. Candidates differ by less than a small split can tell, so that where
training images are plentiful some are held back from the supernet and from short trainings, and rank candidates beside the
validation split. Finalists are trained on all training images; none of the images that judge them is among these.
"""

from __future__ import annotations

import math
from dataclasses import replace

from wb.core.statistics.scores import Z95
from wb.data import Dataset
from wb.data.stratify import carve

WANTED = 2500  # images that rank candidates, where there are enough
SHARE = 0.2  # of training and validation together that ranks candidates, at most
PLENTY = 3000  # training images; of fewer none is held back, as each is missed
FEW = 1000  # images that judge; with fewer the user is told
PASSAGES = "passages"
TYPICAL = 0.8  # accuracy at which differences are stated before any is known


def held_back(data: Dataset) -> int:
    """The number of training images to hold back for ranking: none of a small data set, or where validation is large."""
    train, validation = len(data.train), len(data.validation)
    if data.task != "classes":  # every passage has a grade for each token, so that a few tell more than images
        return 0
    wanted = min(WANTED, round(SHARE * (train + validation)))
    return max(0, wanted - validation) if train >= PLENTY else 0


def ranking(data: Dataset, count: int, part: float = 1.0) -> Dataset:
    """`data` with about `count` images moved from training to validation, stratified; the same images every time.

    Of the training images that are left only the share `part` stays.
    """
    data = _moved(data, count) if count else data
    if part == 1:
        return data
    if data.task != "classes":  # from the beginning, as passages of one text have no classes to keep in proportion
        return replace(data, train=data.train.take(slice(max(1, round(part * len(data.train))))))
    return replace(data, train=carve(data.train, part)[1])


def _moved(data: Dataset, count: int) -> Dataset:
    train, moved = carve(data.train, count / len(data.train))
    validation = data.validation.joined(moved)
    return replace(data, train=train, validation=validation)


def difference(images: int, accuracy: float = TYPICAL) -> float:
    """The difference of two accuracies, in percentage points, that so many images tell from chance at 95 %.

    Limits: for independent answers; networks that are judged on the same images mostly agree, so that less is told apart.
    """
    return 100 * Z95 * math.sqrt(2 * accuracy * (1 - accuracy) / images)


def told(images: int, accuracy: float = TYPICAL, noun: str = "images") -> str:
    """What so many images, or whatever else the examples are, can tell, in words."""
    if noun == PASSAGES:
        return f"{images:,} passages judge, each by all of its tokens"
    points = difference(images, accuracy)
    return f"{images:,} {noun} judge, which tell networks apart that differ by {points:.1f} points (at {100 * accuracy:.0f} %)"


def warning(images: int, noun: str = "images") -> str | None:
    """A warning where few images judge."""
    if images >= FEW or noun == PASSAGES:
        return None
    return f"only {told(images, noun=noun)}; more validation {noun} would rank better"
