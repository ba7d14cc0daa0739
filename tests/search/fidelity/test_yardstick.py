"""The images that rank: none twice, every class as often, the same every time, and what they tell follows from their number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wb.data import Dataset, Split, load
from wb.data.split import Images
from wb.search.fidelity import yardstick
from wb.search.fidelity.yardstick import difference, held_back, ranking, told, warning


def sized(stripes: Dataset, train: int, validation: int) -> Dataset:
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.random((count, 1, 2, 2), dtype=np.float32)
        return Images(images, np.arange(count, dtype=np.int64) % 3)

    return replace(stripes, train=split(train), validation=split(validation), test=split(30))


def test_images_are_held_back_where_they_are_plentiful_and_too_few_judge(stripes: Dataset) -> None:
    assert held_back(load("digits")) == 0
    assert held_back(sized(stripes, 4500, 500)) == 500
    assert held_back(sized(stripes, 2700, 300)) == 0
    assert held_back(sized(stripes, 54_000, 2000)) == 500
    assert held_back(sized(stripes, 55_000, 5000)) == 0


def test_held_back_images_leave_training_and_no_image_is_lost(stripes: Dataset) -> None:
    data = sized(stripes, 300, 60)
    ranks, again = ranking(data, 60), ranking(data, 60)
    assert (len(ranks.train), len(ranks.validation)) == (240, 120)
    assert np.array_equal(ranks.validation.images, again.validation.images)
    assert np.array_equal(ranks.validation.images[:60], data.validation.images)
    before, after = (
        sorted(image.tobytes() for split in (d.train, d.validation) for image in split.images) for d in (data, ranks)
    )
    assert before == after
    assert np.bincount(ranks.validation.labels).tolist() == [40, 40, 40]
    assert (ranks.origin, ranks.test) == (data.origin, data.test)
    assert ranking(data, 0) is data
    part = ranking(data, 60, 0.25)
    assert np.bincount(part.train.labels).tolist() == [20, 20, 20]
    assert {image.tobytes() for image in part.train.images} < {image.tobytes() for image in ranks.train.images}
    assert np.array_equal(part.validation.images, ranks.validation.images)


def test_what_images_tell_is_what_drawn_answers_show() -> None:
    """Of two networks that are equally good, one seems better by more than that in 5 % of the draws."""
    rng = np.random.default_rng(0)
    one, other = rng.binomial(400, 0.8, (2, 20_000)) / 400
    assert np.mean(100 * np.abs(one - other) > difference(400)) == pytest.approx(0.05, abs=0.01)


def test_few_images_are_warned_of() -> None:
    assert warning(yardstick.FEW) is None
    assert warning(360) == f"only {told(360)}; more validation images would rank better"
    assert "360 images judge" in told(360)
    assert "5.8 points (at 80 %)" in told(360)
