from __future__ import annotations

import numpy as np
import pytest

from wb.core.errors import BadData
from wb.data import dataset
from wb.data import split as splits
from wb.data.dataset import Dataset, Split, check_memory, fingerprint_of
from wb.data.split import Images
from wb.data.texts.tables import texts_of
from wb.data.texts.vocabulary import WORDS, vocabulary_of


def _split(count: int = 6, channels: int = 2, *, high: int = 256, seed: int = 0) -> Split:
    random = np.random.default_rng(seed)
    images = random.integers(0, high, (count, channels, 4, 5), dtype=np.uint8)
    return Images(images, np.arange(count, dtype=np.int64) % 2)


def _dataset(train: Split, validation: Split = _split(), test: Split = _split()) -> Dataset:  # noqa: B008
    return Dataset("toy", "toy:here", train, validation, test, ("a", "b"), "0")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_training_images_that_are_all_alike_are_refused(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    monkeypatch.setattr(splits, "CHUNK", 4)
    images: np.ndarray = np.ones((6, 2, 4, 5), kind)
    labels = np.arange(6, dtype=np.int64) % 2
    with pytest.raises(BadData, match="all 6 training images of toy:here are alike, so that nothing can be learned"):
        _dataset(Images(images, labels))
    images[5, 0, 0, 0] = 0
    assert len(_dataset(Images(images, labels)).train) == 6
    assert dataset.blank(Images(images, labels)) == 5


def test_texts_that_are_all_alike_have_no_background() -> None:
    texts = texts_of(["same"] * 6, [0, 1] * 3, vocabulary_of(["same same", "other other"], WORDS))
    with pytest.raises(BadData, match=r"all 6 training texts of toy:here are alike.*look at the files$"):
        _dataset(texts, texts, texts)


def test_pixels_are_floats_between_0_and_1_and_exact_at_the_ends() -> None:
    split = Images(np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1), np.zeros(3, np.int64))
    assert split.pixels().dtype == np.float32
    assert split.pixels().ravel().tolist() == [0.0, pytest.approx(0.2), 1.0]
    assert split.pixels(slice(1, 3)).shape == (2, 1, 1, 1)
    assert split.pixels(np.array([2, 0])).ravel().tolist() == [1.0, 0.0]


def test_pixels_of_float_images_are_a_copy_of_the_same_numbers() -> None:
    images = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 1, 1, 2)
    pixels = Images(images, np.zeros(2, np.int64)).pixels()
    assert np.array_equal(pixels, images)
    pixels[:] = 7
    assert images.max() == 1


def test_grey_images_in_colour_are_the_same_three_times() -> None:
    grey = _dataset(*(_split(channels=1, seed=seed) for seed in range(3)))
    colour = grey.in_colour()
    assert (colour.channels, colour.repeated, colour.fingerprint) == (3, True, grey.fingerprint)
    assert np.array_equal(colour.test.pixels(), np.concatenate([grey.test.pixels()] * 3, axis=1))
    assert colour.in_colour() is colour


def test_large_images_are_scored_some_batches_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    split = _split(23)
    assert len([*split.together(2)]) == 1
    assert split.at_once == splits.CHUNK
    monkeypatch.setattr("wb.data.split.HELD", 5 * split.images[:1].size * 4)
    parts = [np.arange(len(split))[index] for index in split.together(2)]
    assert [len(part) for part in parts[:-1]] == [4] * (len(parts) - 1)
    assert np.array_equal(np.concatenate(parts), np.arange(len(split)))
    assert split.at_once == 5
    assert np.arange(23)[next(iter(split.together(7)))].tolist() == [*range(7)]


def test_validation_examples_join_those_of_training_once_and_the_origin_says_so() -> None:
    data = _dataset(_split(6), _split(4, seed=1))
    whole = data.with_validation()
    assert whole.with_validation() is whole
    np.testing.assert_array_equal(whole.train.images, np.concatenate([data.train.images, data.validation.images]))
    assert (whole.validation, whole.test) == (data.validation, data.test)
    assert whole.origin == {**data.origin, dataset.TRAINED_ON: dataset.WHOLE}
    assert dataset.TRAINED_ON not in data.origin


def test_take_keeps_images_and_labels_together() -> None:
    split = _split()
    part = split.take(np.array([5, 2]))
    assert len(part) == 2
    assert np.array_equal(part.images, split.images[[5, 2]])
    assert part.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), r"images are uint8 of shape \(2, 3, 3\); expected"),
        (np.zeros((2, 1, 3, 3)), np.zeros(2, np.int64), "images are float64 .* expected uint8 or float32"),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int32), "labels are int32 .* expected int64"),
        (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(3, np.int64), "2 images have 3 labels; give one label"),
    ],
)
def test_a_split_refuses_arrays_that_do_not_fit(images: np.ndarray, labels: np.ndarray, text: str) -> None:
    with pytest.raises(BadData, match=text):
        Images(images, labels)


def test_mean_and_std_are_those_of_the_training_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "CHUNK", 5)  # 13 images: two whole chunks and a rest
    data = _dataset(_split(13))
    pixels = data.train.pixels().astype(np.float64)
    assert data.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), rel=1e-12)
    assert data.std == pytest.approx(pixels.std(axis=(0, 2, 3)), rel=1e-12)
    assert (data.channels, data.height, data.width) == (2, 4, 5)


def test_std_of_a_constant_channel_is_1() -> None:
    train = _split(8)
    train.images[:, 1] = 77
    data = _dataset(train)
    assert data.std[1] == 1.0
    assert data.mean[1] == pytest.approx(77 / 255)
    assert data.std[0] < 1


def test_the_fingerprint_follows_every_part_of_the_content() -> None:
    split = _split()
    base = fingerprint_of(("a", "b"), split)
    assert base == fingerprint_of(("a", "b"), Images(split.images.copy(), split.labels.copy()))
    changed = _split()
    changed.images[3, 1, 2, 4] ^= 1
    swapped = Images(split.images, split.labels[::-1])
    reshaped = Images(split.images.reshape(6, 2, 5, 4), split.labels)
    others = [fingerprint_of(("a", "b"), other) for other in (changed, swapped, reshaped)]
    others += [fingerprint_of(("a", "c"), split), fingerprint_of(("a", "b"), split, split)]
    assert len({base, *others}) == 6
    assert len(base) == 16


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"test": Images(np.zeros((0, 2, 4, 5), np.uint8), np.zeros(0, np.int64))},
            "the test split of toy:here is empty",
        ),
        (
            {"validation": _split(channels=1)},
            "validation images .* 4x5 pixels in 1 channel and .* 2 channels; make them",
        ),
        (
            {"test": Images(_split().images, np.full(6, 2))},
            "test split .* labels 2 to 2; with 2 classes, expected 0 to 1",
        ),
        ({"train": Images(_split().images, np.full(6, -1))}, "training split .* labels -1 to -1"),
        ({"train": Images(_split().images, np.zeros(6, np.int64))}, "have one class only; at least two"),
    ],
)
def test_a_dataset_refuses_splits_that_do_not_fit(change: dict[str, Split], text: str) -> None:
    with pytest.raises(BadData, match=text):
        _dataset(**{"train": _split(), **change})


def test_too_much_for_memory_is_refused_with_both_numbers() -> None:
    check_memory(1, 1, 2**16, 2**16, "here")
    with pytest.raises(
        BadData, match=r"here: 2 images of 65536x65536 .* 8\.0 GB .* at most 4\.0 GB .* smaller image size"
    ):
        check_memory(2, 1, 2**16, 2**16, "here")
