from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from wb.data.readers import digits


def test_the_splits_together_are_scikit_learns_digits_each_once() -> None:
    parts = digits.read()
    source = load_digits()
    expected = sorted(
        (image.tobytes(), label) for image, label in zip(source.images.astype(int), source.target, strict=True)
    )
    images = np.concatenate([parts.train.images, parts.validation.images, parts.test.images])[:, 0]
    labels = np.concatenate([parts.train.labels, parts.validation.labels, parts.test.labels])
    levels = np.rint(images / 255 * 16).astype(int)
    assert sorted((image.tobytes(), label) for image, label in zip(levels, labels, strict=True)) == expected
    assert parts.classes == tuple("0123456789")


def test_shares_are_60_20_20_in_every_class() -> None:
    splits = digits.read()[1:4]
    counts = np.array([np.bincount(split.labels, minlength=10) for split in splits])
    shares = counts / counts.sum(axis=0)
    assert np.abs(shares - np.array([[0.6], [0.2], [0.2]])).max() < 0.01


def test_pixels_are_within_half_a_level_of_the_source() -> None:
    train = digits.read().train
    levels = train.pixels() * 16
    assert np.abs(levels - np.rint(levels)).max() <= 16 / 510 + 1e-6
    assert (levels.min(), levels.max()) == (0, 16)
