from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from wb.core.errors import BadData
from wb.data.readers import cifar10

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def content(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """20 images of 3,072 bytes with labels, other ones in each batch."""
    images = np.random.default_rng(batch).integers(0, 256, (20, 3072), dtype=np.uint8)
    return images, (np.arange(20) % 10).astype(np.uint8)


def write_binary(home: Path) -> None:
    home.mkdir(exist_ok=True)
    for i, name in enumerate(BATCHES):
        images, labels = content(i)
        (home / f"{name}.bin").write_bytes(np.hstack([labels[:, None], images]).tobytes())
    (home / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8")


def write_python(home: Path) -> None:
    home.mkdir(exist_ok=True)
    for i, name in enumerate(BATCHES):
        images, labels = content(i)
        batch = {
            b"data": images,
            b"labels": labels.tolist(),
            b"batch_label": b"training",
            b"filenames": [b"a.png"] * 20,
        }
        (home / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}
    (home / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


WRITERS = {"bin": write_binary, "py": write_python}


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("nested", [False, True])
def test_what_was_written_is_read(tmp_path: Path, version: str, nested: bool) -> None:
    WRITERS[version](tmp_path / f"cifar-10-batches-{version}" if nested else tmp_path)
    parts = cifar10.read(tmp_path)
    assert parts.classes == NAMES
    images, labels = content(5)
    assert np.array_equal(parts.test.images, images.reshape(20, 3, 32, 32))
    assert np.array_equal(parts.test.labels, labels)
    assert (len(parts.train), len(parts.validation)) == (90, 10)
    found = [
        (image.tobytes(), label)
        for split in parts[1:3]
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    written = [pair for i in range(5) for pair in zip(*content(i), strict=True)]
    assert sorted(found) == sorted((image.tobytes(), label) for image, label in written)


@pytest.mark.parametrize(("version", "meta"), [("bin", "batches.meta.txt"), ("py", "batches.meta")])
def test_without_a_meta_file_the_published_names_stand(tmp_path: Path, version: str, meta: str) -> None:
    WRITERS[version](tmp_path)
    (tmp_path / meta).unlink()
    assert cifar10.read(tmp_path).classes[::9] == ("airplane", "truck")


def test_a_folder_without_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadData, match=r"holds no CIFAR-10 batches .*data_batch_1\.bin .* unpack cifar-10-binary.tar.gz"
    ):
        cifar10.read(tmp_path)


@pytest.mark.parametrize(("version", "end"), [("bin", ".bin"), ("py", "")])
def test_missing_batches_are_named(tmp_path: Path, version: str, end: str) -> None:
    WRITERS[version](tmp_path)
    for name in ("data_batch_3", "test_batch"):
        (tmp_path / f"{name}{end}").unlink()
    with pytest.raises(BadData, match=f"lacks data_batch_3{end}, test_batch{end}; unpack"):
        cifar10.read(tmp_path)


@pytest.mark.parametrize(
    ("damaged", "text"),
    [
        (bytes(3073 + 5), "is truncated or something else: 3,078 bytes are not whole records of 3,073"),
        (b"", "data_batch_2.bin holds no images"),
        (b"\x0b" + bytes(3072), "has labels 11 to 11, and CIFAR-10 has 0 to 9"),
    ],
)
def test_damage_of_a_binary_batch_is_named(tmp_path: Path, damaged: bytes, text: str) -> None:
    write_binary(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(damaged)
    with pytest.raises(BadData, match=text):
        cifar10.read(tmp_path)


IMAGES = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ({b"labels": [0, 1]}, r"has NoneType as 'data'; expected \(n, 3072\) bytes"),
        ({b"data": b"abc", b"labels": [0, 1]}, "has bytes as 'data'"),
        ({b"data": IMAGES[:, :768], b"labels": [0, 1]}, r"has an array of \(2, 768\) as 'data'"),
        ({b"data": IMAGES, b"fine_labels": [0, 1]}, "no list of whole numbers as 'labels'"),
        ({b"data": IMAGES, b"labels": [0, "1"]}, "no list of whole numbers"),
        ({b"data": IMAGES, b"labels": [0, 2**80]}, "no list of whole numbers"),
        ({b"data": IMAGES, b"labels": [0, 1, 2]}, "holds 2 images and 3 labels"),
        ({b"data": IMAGES, b"labels": [0, -1]}, "has labels -1 to 0"),
        ({b"data": IMAGES.astype(np.int16), b"labels": [0, 1]}, "an array of another type than bytes"),
    ],
)
def test_damage_of_a_python_batch_is_named(tmp_path: Path, batch: dict[bytes, object], text: str) -> None:
    write_python(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(BadData, match=f"data_batch_2.*{text}"):
        cifar10.read(tmp_path)


class _MakesAFolder:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, name: str) -> None:
    write_python(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps({b"data": _MakesAFolder(tmp_path / "made")}, protocol=2))
    with pytest.raises(BadData, match=rf"{name} is refused: it asks for \w+\.mkdir"):
        cifar10.read(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("names", [[b"a", b"b"], [b"a"] * 10, "abc", None])
def test_a_meta_file_with_other_names_is_refused(tmp_path: Path, names: object) -> None:
    write_python(tmp_path)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))
    with pytest.raises(BadData, match=r"batches.meta names . classes, and CIFAR-10 has 10"):
        cifar10.read(tmp_path)
