from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wb.core.errors import BadData
from wb.data.readers import idx

Pair = tuple[np.ndarray, np.ndarray]

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 256, (40, 3, 5), dtype=np.uint8), (np.arange(40) % 4).astype(np.uint8)
TEST = RANDOM.integers(0, 256, (8, 3, 5), dtype=np.uint8), (np.arange(8) % 4).astype(np.uint8)


def encode(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, *, gz: bool = False, mark: str = "-", train: Pair = TRAIN, test: Pair = TEST) -> Path:
    folder.mkdir(exist_ok=True)
    for part, (images, labels) in (("train", train), ("t10k", test)):
        for kind, array in (("images", images), ("labels", labels)):
            path = folder / f"{part}-{kind}{mark}idx{array.ndim}-ubyte{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(encode(array)) if gz else encode(array))
    return folder


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_what_was_written_is_read(tmp_path: Path, gz: bool, mark: str) -> None:
    parts = idx.read(write(tmp_path, gz=gz, mark=mark))
    assert parts.classes == ("0", "1", "2", "3")
    assert np.array_equal(parts.test.images[:, 0], TEST[0])
    assert np.array_equal(parts.test.labels, TEST[1])
    assert (len(parts.train), len(parts.validation)) == (36, 4)
    assert np.bincount(parts.validation.labels).tolist() == [1, 1, 1, 1]
    found = [
        (image.tobytes(), label)
        for split in parts[1:3]
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    assert sorted(found) == sorted((image.tobytes(), label) for image, label in zip(*TRAIN, strict=True))


def test_a_class_number_that_no_image_has_still_counts(tmp_path: Path) -> None:
    labels = TRAIN[1] + 1  # as in EMNIST letters, which begin at 1
    parts = idx.read(write(tmp_path, train=(TRAIN[0], labels), test=(TEST[0], TEST[1] + 1)))
    assert parts.classes == ("0", "1", "2", "3", "4")


def test_missing_files_are_named_and_so_are_those_found(tmp_path: Path) -> None:
    write(tmp_path, gz=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-labels-idx1"):
        (tmp_path / f"{name}-ubyte.gz").unlink()
    text = (
        r"lacks train-images-idx3-ubyte\[.gz\] and train-labels-idx1-ubyte\[.gz\] and t10k-labels-idx1-ubyte\[.gz\] "
        r"\(found: t10k-images-idx3-ubyte.gz\); put all four"
    )
    with pytest.raises(BadData, match=text):
        idx.read(tmp_path)


def test_an_empty_folder_has_none_of_the_four(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="found: none of the four files"):
        idx.read(tmp_path)


Damage = Callable[[bytes], bytes]
HEADER = struct.Struct(">IIII")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda data: b"", "begins with nothing, and IDX images of 8 bits begin with 00000803"),
        (lambda data: b"\x89PNG" + data[4:], "begins with 89504e47, .* check that it is the right file"),
        (lambda data: b"\x00\x00\x0d\x03" + data[4:], "begins with 00000d03"),
        (lambda data: data[:9], "ends within its header; download it again"),
        (lambda data: HEADER.pack(0x803, 0, 3, 5), "is empty: its header says 0 x 3 x 5"),
        (lambda data: data[:-1], "promises 600 bytes and it holds only 599; download it again"),
        (lambda data: data + b"x", "promises 600 bytes and it holds more; download it again"),
        (
            lambda data: HEADER.pack(0x803, 2**32 - 1, 2**32 - 1, 9) + data[16:],
            "truncated or damaged: its header promises",
        ),
        (lambda data: HEADER.pack(0x803, 41, 3, 5) + data[16:] + bytes(15), "41 images and train-labels-.* 40 labels"),
        (lambda data: HEADER.pack(0x803, 40, 5, 3) + data[16:], "images of 5x3 and t10k-images-.* of 3x5 pixels"),
    ],
)
@pytest.mark.parametrize("gz", [False, True])
def test_damage_is_named(tmp_path: Path, damage: Damage, text: str, gz: bool) -> None:
    write(tmp_path, gz=gz)
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if gz else ''}"
    damaged = damage(encode(TRAIN[0]))
    path.write_bytes(gzip.compress(damaged) if gz else damaged)
    with pytest.raises(BadData, match=text):
        idx.read(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-12],  # the end of the data and the checksum are missing
        lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:],  # wrong checksum
        lambda packed: b"no gzip at all",
        lambda packed: packed[:200] + bytes(40) + packed[240:],
    ],
)
def test_a_damaged_gzip_is_named(tmp_path: Path, damage: Damage) -> None:
    write(tmp_path, gz=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    # Random labels, because a compressed sequence would be shorter than the damage.
    labels = RANDOM.integers(0, 256, 4000, dtype=np.uint8)
    path.write_bytes(damage(gzip.compress(encode(labels))))
    with pytest.raises(BadData, match=r"train-labels-idx1-ubyte.gz is a damaged or incomplete gzip file .* download"):
        idx.read(tmp_path)


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_pair_alone_makes_all_three_splits(tmp_path: Path, part: str) -> None:
    write(tmp_path, train=TRAIN, test=TRAIN)
    for path in tmp_path.glob(f"{part}-*"):
        path.unlink()
    parts = idx.read(tmp_path)
    whole = [image.tobytes() for split in parts[1:4] for image in split.images]
    assert sorted(whole) == sorted(image.tobytes() for image in TRAIN[0])
    assert "alone, which is split: 28 for training, 6 for validation, 6 for the test" in parts.notes[0]


def test_a_set_that_would_not_fit_into_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "train-images-idx3-ubyte").open("wb") as file:
        file.write(HEADER.pack(0x803, 2**16, 2**9, 2**9))
        file.truncate(2**34 + 16)  # sparse: takes no room on the disk
    with pytest.raises(BadData, match=r"65,536 images of 512x512 .* 16\.0 GB"):
        idx.read(tmp_path)


def test_a_test_label_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write(tmp_path, test=(TEST[0], TEST[1] + 1))
    with pytest.raises(BadData, match="has the label 4, and training ends at 3; the four files"):
        idx.read(tmp_path)
