"""The summary of a data set against what is known of it, because the test made it so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.data import Dataset, Split, copies
from wb.data.copies import NEAR, digests, near, repeated
from wb.data.split import Images
from wb.data.summary import summarize


def split(seed: int, labels: list[int], shape: tuple[int, ...] = (3, 5, 7)) -> Split:
    """Different images, as random ones are."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    return Images(images, np.array(labels, np.int64))


def dataset(train: Split, validation: Split, test: Split) -> Dataset:
    return Dataset(
        "made", "made", train, validation, test, ("a", "b", "c"), "0" * 16, None, None, ("a note",), ("x", "y", "z")
    )


def plain() -> Dataset:
    return dataset(split(0, [0] * 6 + [1] * 3 + [2] * 2), split(1, [0, 1, 2]), split(2, [2, 2, 1, 0]))


def with_images(data: Dataset, copies: dict[tuple[str, int], tuple[str, int]]) -> Dataset:
    """`data` with some images replaced by copies of others; labels stay."""
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    arrays = {name: one.images.copy() for name, one in splits.items()}
    for (to, i), (of, j) in copies.items():
        arrays[to][i] = arrays[of][j]
    return replace(data, **{name: replace(one, images=arrays[name]) for name, one in splits.items()})


def test_splits_are_counted_and_measured() -> None:
    data = plain()
    found = summarize(data)
    assert [(one.name, one.images, one.counts, one.source) for one in found.splits] == [
        ("train", 11, (6, 3, 2), "x"),
        ("validation", 3, (1, 1, 1), "y"),
        ("test", 4, (1, 1, 2), "z"),
    ]
    assert found.imbalance == 3
    assert (found.channels, found.height, found.width, found.notes) == (3, 5, 7, ("a note",))
    for one, part in zip(found.splits, (data.train, data.validation, data.test), strict=True):
        pixels = part.images.astype(np.float64) / 255
        assert one.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)))
        assert one.std == pytest.approx(pixels.std(axis=(0, 2, 3)))
        assert (one.low, one.high) == (pixels.min(), pixels.max())
        assert (one.constant, one.repeated, one.disputed) == (0, 0, 0)
    assert not any((one.images, one.near) != (0, 0) for one in found.overlaps)
    assert not found.disputed


def test_copies_are_found_within_and_across_splits() -> None:
    """Train 1 and 7 repeat train 0, of another label; test 0 and 3 repeat train 9 and 0, of the same; test 1 validation 0."""
    copies = {
        ("train", 1): ("train", 0),
        ("train", 7): ("train", 0),
        ("test", 0): ("train", 9),
        ("test", 3): ("train", 0),
        ("test", 1): ("validation", 0),
    }
    found = summarize(with_images(plain(), copies))
    assert [(one.repeated, one.disputed) for one in found.splits] == [(2, 3), (0, 0), (0, 0)]
    assert {(one.of, one.among): (one.images, one.disputed) for one in found.overlaps} == {
        ("validation", "train"): (0, 0),
        ("test", "train"): (2, 0),
        ("test", "validation"): (1, 1),
    }
    assert [(one.split, one.index, one.labels) for one in found.disputed] == [
        ("train", 0, ("a", "b")),
        ("validation", 0, ("a", "c")),
    ]


def test_images_of_one_colour_are_counted() -> None:
    data = plain()
    images = data.test.images.copy()
    images[2] = np.array([7, 8, 9], np.uint8)[:, None, None]
    found = summarize(replace(data, test=replace(data.test, images=images)))
    assert [one.constant for one in found.splits] == [0, 0, 1]


def test_a_class_without_training_images_makes_it_infinitely_uneven() -> None:
    data = plain()
    assert summarize(replace(data, train=split(0, [0] * 6 + [1] * 5))).imbalance == float("inf")


@given(st.lists(st.integers(0, 3), max_size=12))
def test_an_image_repeats_an_earlier_one_or_is_the_first_of_its_kind(kinds: list[int]) -> None:
    images = np.array(kinds, np.uint8).reshape(-1, 1, 1, 1)
    keys = digests(Images(images, np.zeros(len(kinds), np.int64)))
    assert repeated(keys).tolist() == [i for i, kind in enumerate(kinds) if kind in kinds[:i]]


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1, 1), (1, 8, 8), (3, 5, 7), (1, 3, 11)]))
def test_near_images_are_those_that_a_search_of_all_pairs_finds(seed: int, shape: tuple[int, ...]) -> None:
    """Also where the difference is just about the limit, and where all images have the same means."""
    random = np.random.default_rng(seed)
    among = split(seed % 1000, [0] * 5, shape)
    noise = random.normal(0, random.uniform(0.5, 1.5) * NEAR * 255, among.images.shape)
    noise[: len(noise) // 2] -= noise[: len(noise) // 2].mean(axis=(1, 2, 3), keepdims=True)
    own = replace(among, images=(among.images + noise).clip(0, 255).astype(np.uint8))
    distances = np.sqrt(np.square(own.pixels()[:, None] - among.pixels()[None]).mean(axis=(2, 3, 4)))
    sure = np.abs(distances - NEAR).min(axis=1) > 1e-6
    assert (near(own, among).found == (distances <= NEAR).any(axis=1))[sure].all()


@pytest.mark.parametrize(("most", "unsettled"), [(1 << 34, 0), (120 * 64 * 64, 2), (0, 3)])
def test_beyond_a_budget_only_the_most_alike_are_compared_and_that_is_said(
    most: int, unsettled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The means of all images are about the same, and a copy of one is not among the two that are most alike."""
    monkeypatch.setattr(copies, "MOST", most)
    monkeypatch.setattr(copies, "FIRST", 2)
    images = np.random.default_rng(0).integers(0, 2, (120, 1, 64, 64), dtype=np.uint8) * np.uint8(15) + np.uint8(99)
    own = np.stack([images[60] + np.uint8(4), *(213 - images[:2])])  # nearly a copy, and two the other way round
    one, other = (Images(some, np.zeros(len(some), np.int64)) for some in (own, images))
    found = near(one, other)
    assert found.unsettled == unsettled
    assert found.found.tolist() == [most > 0, False, False]


def test_features_are_near_in_units_of_their_own_spread() -> None:
    random = np.random.default_rng(0)
    images = random.normal(-300, 50, (9, 1, 6, 5)).astype(np.float32)
    among = Images(images, np.zeros(9, np.int64), features=True)
    for shift, close in ((3, True), (5, False)):  # four deviations are 200, of which two hundredths are near
        moved = replace(among, images=images + np.float32(shift))
        assert near(moved, among).found.all() == close


def test_near_images_are_no_equal_ones_and_are_counted_across_splits() -> None:
    data = with_images(plain(), {("test", 0): ("train", 3), ("test", 1): ("train", 4)})
    images = data.test.images.copy()
    images[0] ^= 1
    found = summarize(replace(data, test=replace(data.test, images=images)))
    assert {(one.of, one.among): (one.images, one.near) for one in found.overlaps}["test", "train"] == (1, 1)


def test_progress_goes_forward() -> None:
    steps: list[tuple[int, int]] = []
    summarize(plain(), lambda what, done, of: steps.append((done, of)))
    assert all(a[0] < b[0] < b[1] for a, b in pairwise(steps))
