"""Reader of the IDX format, gzipped or not: folders with the four files of MNIST, Fashion-MNIST, EMNIST and the like.

Source: http://yann.lecun.com/exdb/mnist/ (big-endian header: two zero bytes, type, number of dimensions, the sizes).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData
from wb.data.dataset import Split, check_memory
from wb.data.readers.parts import Parts, divided, with_validation
from wb.data.split import Images

_UINT8 = 0x08
_DEFLATE = 1032  # the largest factor by which a gzip file can expand
_BLOCK = 1 << 20
_FILES = (("train", "images", 3), ("train", "labels", 1), ("t10k", "images", 3), ("t10k", "labels", 1))


def read(folder: Path) -> Parts:
    """Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and `t10k-…`, also with `.idx3-ubyte` or `.gz`.

    Images are grey, (n, 1, height, width). Classes are named by their numbers, "0" to the largest training label. If there is
    one of the two pairs only, all three splits are made of it (`wb.data.readers.parts.divided`).

    Raises:
        BadData: a file is missing, truncated or of another type, or the files do not fit each other.

    Limits: 8-bit images and labels only.
    """
    found = [_find(folder, part, kind, dimensions) for part, kind, dimensions in _FILES]
    for pair in (found[:2], found[2:]):
        if all(path is not None for path in pair) and found.count(None) == 2:
            return _alone(folder, *(path for path in pair if path is not None))
    missing = [f"{p}-{k}-idx{d}-ubyte[.gz]" for (p, k, d), path in zip(_FILES, found, strict=True) if path is None]
    if missing:
        present = ", ".join(path.name for path in found if path is not None) or "none of the four files"
        raise BadData(f"{folder} lacks {' and '.join(missing)} (found: {present}); put all four files there")
    paths = [path for path in found if path is not None]
    train, test = _split(paths[0], paths[1]), _split(paths[2], paths[3])
    if train.images.shape[1:] != test.images.shape[1:]:
        raise BadData(
            f"{paths[0]} holds images of {_size(train)} and {paths[2].name} of {_size(test)} pixels; "
            "the four files have to be of one data set"
        )
    highest = int(train.labels.max())
    if int(test.labels.max()) > highest:
        raise BadData(
            f"{paths[3]} has the label {int(test.labels.max())}, and training ends at {highest}; "
            "the four files have to be of one data set"
        )
    return with_validation(
        tuple(str(label) for label in range(highest + 1)), train, test, (paths[0].name, paths[2].name)
    )


def _alone(folder: Path, images: Path, labels: Path) -> Parts:
    """The splits of a folder that has these two files only."""
    whole = _split(images, labels)
    classes = tuple(str(label) for label in range(int(whole.labels.max()) + 1))
    return divided(classes, {"train": (images.name, whole)}, str(folder))


def _find(folder: Path, part: str, kind: str, dimensions: int) -> Path | None:
    names = (f"{part}-{kind}{mark}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for mark in ("-", "."))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _split(images: Path, labels: Path) -> Split:
    pixels, names = _array(images, 3), _array(labels, 1)
    if len(pixels) != len(names):
        raise BadData(
            f"{images} holds {len(pixels):,} images and {labels.name} {len(names):,} labels; "
            "they have to be of the same set, so download them again together"
        )
    return Images(pixels[:, None], names.astype(np.int64))


def _array(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _header(file, path, dimensions)
            return np.frombuffer(_body(file, path, math.prod(shape)), np.uint8).reshape(shape)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path} is a damaged or incomplete gzip file ({error}); download it again") from error


def _header(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> tuple[int, ...]:
    """Reads the sizes of the array, and checks that the file can hold so much before anything is allocated."""
    header = file.read(4 + 4 * dimensions)
    expected = bytes((0, 0, _UINT8, dimensions))
    if header[:4] != expected:
        raise BadData(
            f"{path} begins with {header[:4].hex() or 'nothing'}, and IDX {'images' if dimensions == 3 else 'labels'} "
            f"of 8 bits begin with {expected.hex()}; check that it is the right file, unpacked or named .gz"
        )
    if len(header) < 4 + 4 * dimensions:
        raise BadData(f"{path} ends within its header; download it again")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if 0 in shape:
        raise BadData(f"{path} is empty: its header says {' x '.join(map(str, shape))}; download it again")
    capacity = path.stat().st_size * (_DEFLATE if path.suffix == ".gz" else 1)
    if math.prod(shape) > capacity:
        raise BadData(
            f"{path} is truncated or damaged: its header promises {math.prod(shape):,} bytes, more than a file of "
            f"{path.stat().st_size:,} bytes can hold; download it again"
        )
    if dimensions == 3:
        check_memory(shape[0], 1, shape[1], shape[2], str(path))
    return shape


def _body(file: BinaryIO | gzip.GzipFile, path: Path, size: int) -> bytearray:
    body = bytearray()
    while len(body) <= size and (block := file.read(min(_BLOCK, size + 1 - len(body)))):
        body += block
    if len(body) != size:
        holds = "more" if len(body) > size else f"only {len(body):,}"
        raise BadData(f"{path} is damaged: its header promises {size:,} bytes and it holds {holds}; download it again")
    return body


def _size(split: Split) -> str:
    return f"{split.images.shape[2]}x{split.images.shape[3]}"
