"""Archives of arrays: the usual names and shapes are understood, pickles are refused, and nothing is guessed in silence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wb.core.errors import BadData, BadOption
from wb.data import load
from wb.data.readers import npz
from wb.data.readers.parts import Parts

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 3, 5), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def read(folder: Path, **arrays: Any) -> Parts:
    np.savez(folder / "a.npz", **arrays)
    return npz.read(folder / "a.npz")


def pairs(*splits: Any) -> set[tuple[bytes, int]]:
    return {(x.tobytes(), int(y)) for split in splits for x, y in zip(split.images, split.labels, strict=True)}


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y"), ("images", "labels"), ("data", "target")])
def test_arrays_without_a_split_are_divided(tmp_path: Path, names: tuple[str, str]) -> None:
    parts = read(tmp_path, **dict(zip(names, (GREY, LABELS), strict=True)))
    assert parts.classes == ("0", "1", "2", "3")
    assert pairs(*parts[1:4]) == pairs_of(GREY[:, None], LABELS)
    assert "is split" in parts.notes[0]
    assert parts.sources[1] == f"cut from {names[0].lower()}"


def pairs_of(images: Any, labels: Any) -> set[tuple[bytes, int]]:
    return {(x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}


@pytest.mark.parametrize("form", ["{what}_{split}", "{split}_{what}", "{what}{split}"])
def test_a_pair_for_each_split_is_taken_as_it_is(tmp_path: Path, form: str) -> None:
    arrays = {}
    for i, split in enumerate(("train", "val", "test")):
        part = slice(12 * i, 12 * i + 12)
        for what, values in (("images", GREY), ("labels", LABELS)):
            arrays[form.format(what=what, split=split)] = values[part]
    parts = read(tmp_path, **arrays)
    assert [pairs(split) for split in parts[1:4]] == [
        pairs_of(GREY[12 * i : 12 * i + 12, None], LABELS[12 * i : 12 * i + 12]) for i in range(3)
    ]
    assert not parts.notes


@pytest.mark.parametrize("marks", [("train", "validation", "test"), ("TRAIN", "dev", "Test"), (0, 1, 2)])
def test_an_array_may_say_the_split_of_every_image(tmp_path: Path, marks: tuple[Any, ...]) -> None:
    place = RANDOM.permutation(np.arange(40) % 3)
    parts = read(tmp_path, x=GREY, y=LABELS, split=np.array([marks[i] for i in place]))
    for i, split in enumerate(parts[1:4]):
        assert pairs(split) == pairs_of(GREY[place == i, None], LABELS[place == i])
    with pytest.raises(BadData, match="'extra' in split"):
        read(tmp_path, x=GREY, y=LABELS, split=np.array(["train", "extra"] * 20))


def test_channels_are_found_where_they_are(tmp_path: Path) -> None:
    last = read(tmp_path, x=COLOUR, y=LABELS)
    second = read(tmp_path, x=COLOUR.transpose(0, 3, 1, 2), y=LABELS)
    assert last.train.images.shape[1:] == (3, 6, 5)
    assert pairs(last.train) == pairs(second.train)
    both = read(tmp_path, x=COLOUR[:, :3], y=LABELS)
    assert "the channels are taken to be last" in both.notes[0]
    flat = read(tmp_path, x=GREY.reshape(40, 15)[:, :9], y=LABELS)
    assert flat.train.images.shape[1:] == (1, 3, 3)
    assert "grey images of 3x3" in flat.notes[0]


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (GREY / 255, None),
        ((GREY / 255).astype(np.float32), None),
        (GREY / 127.5 - 1, "in -1 to 1"),
        (GREY.astype(np.float64), None),
        (GREY.astype(np.int64), None),
        (GREY.astype(np.uint16) * 257, "16 bits"),
    ],
)
def test_values_of_every_usual_kind_become_the_same_levels(tmp_path: Path, values: Any, note: str | None) -> None:
    parts = read(tmp_path, x=values, y=LABELS)
    assert pairs(*parts[1:4]) == pairs_of(GREY[:, None], LABELS)
    assert any((note or "is split") in text for text in parts.notes)
    assert len(parts.notes) == (1 if note is None else 2)


@pytest.mark.parametrize(
    "labels", [LABELS[:, None], np.eye(4)[LABELS], LABELS.astype(np.float32), LABELS.astype(np.uint8)]
)
def test_labels_of_every_usual_kind_are_the_same(tmp_path: Path, labels: Any) -> None:
    assert pairs(*read(tmp_path, x=GREY, y=labels)[1:4]) == pairs_of(GREY[:, None], LABELS)


def test_classes_have_the_names_that_the_file_gives(tmp_path: Path) -> None:
    names = np.array(["d", "c", "b", "a"])
    assert read(tmp_path, x=GREY, y=LABELS, class_names=names).classes == ("d", "c", "b", "a")
    texts = read(tmp_path, x=GREY, y=names[LABELS])
    assert texts.classes == ("a", "b", "c", "d")
    assert pairs(*texts[1:4]) == pairs_of(GREY[:, None], 3 - LABELS)
    raw = np.array([name.encode() for name in ("ä", "b", "c", "d")])  # bytes, as HDF5 has them
    assert read(tmp_path, x=GREY, y=LABELS, classes=raw).classes == ("ä", "b", "c", "d")
    assert read(tmp_path, x=GREY, y=raw[LABELS]).classes == ("b", "c", "d", "ä")
    split = np.array([b"train", b"val", b"test"])[np.arange(40) % 3]
    assert len(read(tmp_path, x=GREY, y=LABELS, split=split).validation) == 13
    with pytest.raises(BadData, match="label 3, and names 2 classes"):
        read(tmp_path, x=GREY, y=LABELS, classes=names[:2])


def test_secret_labels_are_left_out_and_so_are_other_arrays(tmp_path: Path) -> None:
    parts = read(tmp_path, x_train=GREY, y_train=LABELS, x_test=GREY, y_test=np.full(40, -1), weights=np.ones(3))
    assert parts.notes[0].endswith("the arrays weights")
    assert "40 of 40 images of x_test have no label" in parts.notes[1]
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 40
    texts = np.array(["", "b", "c", "d"])[LABELS]
    parts = read(tmp_path, x=GREY, y=texts)
    assert parts.classes == ("b", "c", "d")
    assert pairs(*parts[1:4]) == pairs_of(GREY[texts != "", None], LABELS[texts != ""] - 1)


def test_features_keep_their_values_and_names_of_files_are_no_classes(tmp_path: Path) -> None:
    values = (RANDOM.normal(-90, 40, (40, 9, 4))).astype(np.float16)
    np.savez(tmp_path / "a.npz", feat=values, y=LABELS, names=np.array([f"{i}.wav" for i in range(40)]))
    found = load(f"npz,values=features:{tmp_path / 'a.npz'}")
    splits = (found.train, found.validation, found.test)
    assert pairs(*splits) == pairs_of(values[:, None].astype(np.float32), LABELS)
    assert found.classes == ("0", "1", "2", "3")
    assert found.features
    assert np.array_equal(found.train.pixels(), found.train.images), "not divided by 255"
    assert all(split.shown(0).max() - split.shown(0).min() == 255 for split in splits)
    with pytest.raises(BadData, match="values=features:FILE"):
        npz.read(tmp_path / "a.npz")
    with pytest.raises(BadOption, match="image_size=9 is for images"):
        load(found.spec, image_size=9)
    np.savez(tmp_path / "a.npz", x=values.astype(np.float64) * 1e40, y=LABELS)
    with pytest.raises(BadData, match="no finite numbers"):
        load(found.spec)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": np.array([GREY[0], "no picture"], object), "y": LABELS}, "'x' of .* Python objects.*never read"),
        ({"x": GREY, "y": np.array([{}] * 40)}, "'y' of .* Python objects"),
        ({"z": GREY}, "holds z, and no images for training; expected arrays x and y"),
        ({"x": GREY}, "images in x and no labels"),
        ({"x_test": GREY, "y_test": LABELS}, "no images for training"),
        ({"x": GREY, "y": LABELS[:39]}, "40 images in x and 39 labels in y"),
        ({"x": GREY, "y": LABELS, "split": np.zeros(39, int)}, "40 images and 39 entries in split"),
        ({"x": np.zeros((40, 6, 5, 4), np.uint8), "y": LABELS}, "40 x 6 x 5 x 4; expected"),
        ({"x": GREY * np.nan, "y": LABELS}, "no finite numbers"),
        ({"x": GREY / 255 * 5 - 2, "y": LABELS}, "values from -2 to 3; expected 0 to 1.*undo the normalisation"),
        ({"x": GREY.astype("S1"), "y": LABELS}, "images of |S1"),
        ({"x": GREY, "y": LABELS + 0.5}, "labels of float64; expected whole numbers"),
        ({"x": GREY, "y": np.full(40, -1)}, "no image for training with a label"),
        ({"x": GREY[:0], "y": LABELS[:0]}, "which are none"),
        ({"x": GREY, "y": LABELS, "classes": np.array(["a", "b", "a", "c"])}, "one name comes twice"),
        ({"x": GREY, "y": LABELS, "classes": np.array(["a", "b", "c", "\x07"])}, "unprintable name"),
        ({"x": np.zeros(3, [("a", int)]), "y": LABELS}, "structured"),
        (
            {"x_train": GREY, "y_train": LABELS, "x_test": GREY / 255, "y_test": LABELS},
            "uint8 in one split and of float64",
        ),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY > 99, "y_test": LABELS}, "uint8 in one split and of bool"),
        ({"x_train": GREY, "y_train": LABELS, "x_test": GREY, "y_test": LABELS.astype(str)}, "texts as labels of one"),
        ({"x": GREY, "y": np.where(LABELS == 0, 1e30, LABELS)}, "labels of float64"),
        ({"x": GREY, "y": np.where(LABELS == 0, 2**63 + 5, LABELS).astype(np.uint64)}, "the label 9223372036854775813"),
        ({"x": GREY, "y": np.array([b"a", b"b", b"c", b"\xff"])[LABELS]}, "no UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(BadData, match=text):
        read(tmp_path, **arrays)


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for shape, text in (((1 << 40, 28, 28), "GB, and at most"), ((41, 3, 5), "header promises")):
        array = io.BytesIO()
        np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", array.getvalue() + GREY.tobytes())
            archive.writestr("y.npy", array.getvalue())
        with pytest.raises(BadData, match=text):
            npz.read(path)


@pytest.mark.parametrize("descr", ["<U0", "|S0"])
def test_texts_without_characters_are_refused_however_many_they_are(tmp_path: Path, descr: str) -> None:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": descr, "fortran_order": False, "shape": (1 << 40,)})
    path = tmp_path / "a.npz"
    np.savez(path, x=GREY)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y.npy", array.getvalue())
    with pytest.raises(BadData, match=r"'y' of .* is damaged"):
        npz.read(path)


def test_a_header_that_python_cannot_parse_is_no_header(tmp_path: Path) -> None:
    text = f"{'-' * 9000}1\n".encode()
    path = tmp_path / "a.npz"
    np.savez(path, y=LABELS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(BadData, match="damaged"):
        npz.read(path)


def test_no_archive_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"PK\x03\x04 no archive", b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(BadData, match=r"no \.npz file or is damaged"):
            load(f"npz:{path}")
    with pytest.raises(BadData, match="does not exist; npz needs the file"):
        load(f"npz:{tmp_path / 'b.npz'}")
    with pytest.raises(BadData, match="is a folder"):
        load(f"npz:{tmp_path}")
