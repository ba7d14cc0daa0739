"""Reader of NumPy archives: arrays of images and labels, with a split or without. Nothing is unpickled.

The usual names are known: `x` and `y` (`images` and `labels`, `data` and `target`) with an optional `split` that says of each
image "train", "validation" or "test"; or a pair for each split, `x_train` and `y_train` (Keras), `train_images` and
`train_labels` (MedMNIST). `classes` may name the classes.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from wb.core.errors import BadData, WbError, printable, reason
from wb.core.system.files import irregular
from wb.data.dataset import MAX_BYTES, Split
from wb.data.readers import numbers
from wb.data.readers.numbers import Array, texts
from wb.data.readers.parts import NAMES, ROLES, Parts, divided, labelled
from wb.data.split import Images

_IMAGES = ("x", "images", "image", "data", "inputs", "features", "feat")
_LABELS = ("y", "labels", "label", "target", "targets")
_SPLIT = ("split", "splits", "subset")
_CLASSES = ("classes", "class_names", "label_names", "target_names", "names")
_SHOWN = 8
EXPECTED = "expected arrays x and y, with an optional split, or a pair for each split: x_train, y_train, x_test, y_test"


class _Pair(NamedTuple):
    """The arrays of images and labels, by their names in the file."""

    images: str
    labels: str


def read(path: Path, *, features: bool = False) -> Parts:
    """Reads the arrays in the file at `path`; see `numbers` for what images, or `features`, and labels may be.

    Raises:
        BadData: it is no such archive, damaged, or holds Python objects, other arrays, or such as do not fit each other.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            found = _Archive(path, archive, {name.lower(): name for name in names})
            return _parts(found, features=features)
    except (WbError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged archive fails in any way
        raise BadData(f"{path} is no .npz file or is damaged ({reason(error)}); save it with numpy.savez") from error


class _Archive(NamedTuple):
    """An open archive; `names` has what its arrays are called, by the same in lower case."""

    path: Path
    archive: zipfile.ZipFile
    names: Mapping[str, str]

    def array(self, name: str) -> Array:
        """The array of that name, whose header is checked before anything is allocated."""
        member = f"{self.names[name]}.npy"
        where = f"{printable(self.names[name])!r} of {self.path}"
        with self.archive.open(member) as file:
            shape, _, dtype = _header(file, where)
            size = int(np.prod([1, *shape], dtype=object)) * dtype.itemsize
            if size > MAX_BYTES:
                raise BadData(
                    f"{where} has {size / 2**30:,.1f} GB, and at most {MAX_BYTES / 2**30:,.1f} GB are held; save fewer "
                    "images, or save them as uint8"
                )
            if not dtype.itemsize or size != self.archive.getinfo(member).file_size - file.tell():
                raise BadData(f"{where} is damaged: its header promises {size:,} bytes and it holds another number")
        with self.archive.open(member) as file:
            return texts(_text_checked(np.asarray(np.lib.format.read_array(file, allow_pickle=False)), where), where)

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of `names` that there is."""
        return next((name for name in names if name in self.names), None)


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise BadData(f"{where} is a structured array; save images and labels as two plain ones")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, order, dtype = header(file)
    except MemoryError as error:  # Python's parser says so of expressions that are nested too deeply
        raise BadData(f"{where} is damaged: its header is no header; save it with numpy.savez") from error
    if dtype.hasobject:
        raise BadData(
            f"{where} holds Python objects, which are pickled; pickles can run code and are never read; save it as numbers, "
            "images of one size with numpy.stack"
        )
    if dtype.names is not None:
        raise BadData(f"{where} is a structured array; save images and labels as two plain ones")
    return shape, order, dtype


def _text_checked(array: Array, where: str) -> Array:
    """`array`, once its texts are known to be text: NumPy gives out what is none as a fault of the interpreter."""
    if array.dtype.kind == "U" and array.size:
        codes = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if int(codes.max()) > sys.maxunicode:
            raise BadData(f"{where} is damaged: it holds what is no text; save it with numpy.savez")
    return array


def _parts(file: _Archive, *, features: bool) -> Parts:
    pairs = _pairs(file)
    given = [file.array(pair.labels) for pair in pairs.values()]
    named, names = _names(file, sum(map(len, given)))
    read_values = numbers.features if features else numbers.images
    pixels, notes = read_values([file.array(pair.images) for pair in pairs.values()], str(file.path))
    classes, answers = numbers.labels(given, names, str(file.path))
    for pair, one, other in zip(pairs.values(), pixels, answers, strict=True):
        if len(one) != len(other):
            raise BadData(
                f"{file.path} has {len(one):,} images in {pair.images} and {len(other):,} labels in {pair.labels}"
            )
    splits: dict[str, tuple[str, Split]] = {
        role: (pair.images, Images(one, other, features=features))
        for (role, pair), one, other in zip(pairs.items(), pixels, answers, strict=True)
    }
    used = {*(name for pair in pairs.values() for name in pair), *([named] if named else [])}
    divider = file.first(_SPLIT)
    if divider is not None and len(splits) == 1 and "train" in splits:
        splits, used = _by_split(file, divider, splits["train"][1]), used | {divider}
    splits, without = labelled(splits, str(file.path))
    rest = sorted(file.names[name] for name in file.names.keys() - used)
    left = [f"left out of {file.path}: the arrays {', '.join(map(printable, rest[:_SHOWN]))}"] if rest else []
    found = divided(classes, splits, str(file.path))
    return found._replace(notes=(*left, *notes, *without, *found.notes))


def _names(file: _Archive, images: int) -> tuple[str | None, list[str]]:
    """The array that names the classes, and the names; none if it has one for each of so many images, as those of files are."""
    named = file.first(_CLASSES)
    names = [] if named is None else [str(name) for name in file.array(named).ravel().tolist()]
    return (None, []) if len(names) == images else (named, names)


def _pairs(file: _Archive) -> dict[str, _Pair]:
    """The arrays of each split by its role; those without a split are for training.

    Raises:
        BadData: images without labels, or none.
    """
    found = {}
    for role in ROLES:
        for name in NAMES[role]:
            own, other = (
                file.first(tuple(form for one in stems for form in (f"{one}_{name}", f"{name}_{one}", f"{one}{name}")))
                for stems in (_IMAGES, _LABELS)
            )
            if own is not None and role not in found:
                found[role] = _Pair(own, _need(file, own, other))
    if not found and (own := file.first(_IMAGES)) is not None:
        found["train"] = _Pair(own, _need(file, own, file.first(_LABELS)))
    if "train" not in found:
        there = ", ".join(map(printable, sorted(file.names.values())[:_SHOWN])) or "nothing"
        raise BadData(f"{file.path} holds {there}, and no images for training; {EXPECTED}")
    return found


def _need(file: _Archive, images: str, labels: str | None) -> str:
    if labels is None:
        raise BadData(f"{file.path} has images in {images} and no labels for them; {EXPECTED}")
    return labels


def _by_split(file: _Archive, name: str, whole: Split) -> dict[str, tuple[str, Split]]:
    """The splits that the array `name` divides `whole` into, by role: by the names of splits, or 0, 1 and 2."""
    given = file.array(name).ravel()
    if len(given) != len(whole):
        raise BadData(
            f"{file.path} has {len(whole):,} images and {len(given):,} entries in {name}; give one for each image"
        )
    marks = [str(one).lower() for one in given.tolist()]
    roles = {mark: role for i, role in enumerate(ROLES) for mark in (*NAMES[role], str(i))}
    unknown = sorted(set(marks) - roles.keys())
    if unknown:
        raise BadData(
            f"{file.path} has {printable(unknown[0])!r} in {name}; expected train, validation and test, or 0, 1 and 2 for them"
        )
    place = np.array([ROLES.index(roles[mark]) for mark in marks])
    found = {role: (f"{name} {role}", whole.take(np.flatnonzero(place == i))) for i, role in enumerate(ROLES)}
    if not len(found["train"][1]):
        raise BadData(f"{file.path} has no images for training in {name}; {EXPECTED}")
    return {role: pair for role, pair in found.items() if len(pair[1])}


def check(path: Path) -> None:
    """Raises `BadData` unless there is a regular file at `path`."""
    why = irregular(path)
    if why is not None:
        raise BadData(f"{path} {why}; npz needs the file that holds the arrays")
