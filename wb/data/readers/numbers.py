"""Levels and labels that come as arrays of numbers: whatever is usual is brought to 8 bits, and a note says what was done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData, printable
from wb.data.dataset import MAX_BYTES, Labels, Levels
from wb.data.spec import ARRAYS, FEATURES

Array = npt.NDArray[Any]

_LEVELS, _WORD = 255, 65535
_CHANNELS = (1, 3)
_CHUNK = 1024  # images that are scaled at a time
MOST = 100_000  # classes
UNLABELLED = -1  # what data sets write where a label is kept secret
_KINDS = {"u": "whole", "i": "whole", "f": "floating-point", "b": "yes or no"}  # of numbers


def images(arrays: Sequence[Array], where: str) -> tuple[list[Levels], list[str]]:
    """The images in `arrays`, one for each split, uint8 (n, channels, height, width); and notes on what was done.

    Taken are (n, height, width), (n, height, width, channels), (n, channels, height, width) and flat rows of square grey
    images; values of 8 or 16 bits, or in 0 to 1, -1 to 1 or 0 to 255, for all splits alike. `where` names them in messages.

    Raises:
        BadData: another shape or kind of numbers, no images, splits of different kinds, or values that are not finite or out of
            these ranges.
    """
    shaped, notes = _shaped(arrays, where)
    factor, offset, note = _scale(shaped, where)
    notes += [note] if note else []
    return [_levels(array, factor, offset) for array in shaped], list(dict.fromkeys(notes))


def _shaped(arrays: Sequence[Array], where: str) -> tuple[list[Array], list[str]]:
    """The arrays as (n, channels, height, width), and notes. Raises `BadData` as `images` for shapes and kinds of numbers."""
    notes: list[str] = []
    shaped = []
    for array in arrays:
        if array.dtype.kind not in "buif":
            raise BadData(f"{where} has images of {array.dtype}; expected whole or floating-point numbers")
        if _KINDS[array.dtype.kind] != _KINDS[arrays[0].dtype.kind]:  # one scale would not be that of both
            raise BadData(
                f"{where} has images of {arrays[0].dtype} in one split and of {array.dtype} in another; save all splits alike"
            )
        laid, note = _laid(array, where)
        shaped.append(laid)
        notes += [note] if note else []
    return shaped, list(dict.fromkeys(notes))


def features(arrays: Sequence[Array], where: str) -> tuple[list[Levels], list[str]]:
    """The examples in `arrays`, as `images` lays them out, with their values as they are: float32; and notes.

    Raises:
        BadData: as `images` for shapes and kinds of numbers; values that are no finite numbers in float32; too many of them.
    """
    if 4 * sum(array.size for array in arrays) > MAX_BYTES:
        raise BadData(
            f"{where} has {sum(array.size for array in arrays):,} values, and at most {MAX_BYTES // 4:,} are held; save fewer "
            "examples"
        )
    shaped, notes = _shaped(arrays, where)
    with np.errstate(over="ignore"):
        found: list[Levels] = [np.ascontiguousarray(array, np.float32) for array in shaped]
    if not all(np.isfinite(array).all() for array in found):
        raise BadData(f"{where} has values that are no finite numbers of 32 bits; leave those out, or scale them")
    return found, notes


def labels(arrays: Sequence[Array], names: Sequence[str], where: str) -> tuple[tuple[str, ...], list[Labels]]:
    """The names of the classes, and the labels of each split as int64 (n,); `UNLABELLED` where a label is negative,
    or an empty text.

    Labels are whole numbers (n,) or (n, 1), one-hot rows, or texts, which are then the names. Without `names` classes are called
    by their numbers, "0" to the largest label.

    Raises:
        BadData: another shape or kind, texts in one split and numbers in another, or a label that has no name.
    """
    flat = [_flat(array, where) for array in arrays]
    if any(array.dtype.kind == "U" for array in flat):
        return _of_texts(flat, names, where)
    highest = max((int(array.max()) for array in flat if array.size), default=-1)
    if highest >= MOST:
        raise BadData(f"{where} has the label {highest}, and at most {MOST:,} classes are taken; number them from 0")
    if names and highest >= len(names):
        raise BadData(f"{where} has the label {highest}, and names {len(names)} classes; it ends at {len(names) - 1}")
    whole = [np.maximum(array.astype(np.int64), UNLABELLED) for array in flat]
    return _named(names or [str(label) for label in range(highest + 1)], where), whole


def texts(array: Array, where: str) -> Array:
    """`array`, its bytes as texts if it has such; they are UTF-8. Raises `BadData` for others."""
    if array.dtype.kind != "S":
        return array
    try:
        return np.strings.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"{where} has bytes that are no UTF-8 ({error.reason}); save them as texts") from error


def _of_texts(arrays: Sequence[Array], names: Sequence[str], where: str) -> tuple[tuple[str, ...], list[Labels]]:
    """As `labels`, of texts (n,)."""
    if any(array.dtype.kind != "U" for array in arrays):
        raise BadData(f"{where} has texts as labels of one split and numbers of another; save all splits alike")
    there = {text for array in arrays for text in np.unique(array).tolist()} - {""}
    known = _named(names or sorted(there), where)
    index = {name: i for i, name in enumerate(known)}
    unknown = sorted(there - index.keys())
    if unknown:
        raise BadData(f"{where} has the label {printable(unknown[0])!r}, which is none of its {len(known)} classes")
    return known, [np.array([index.get(text, UNLABELLED) for text in array.tolist()], np.int64) for array in arrays]


def _named(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of classes; they end in files that have to be valid Unicode. Raises `BadData` for others, and for one twice."""
    for name in names:
        if not name.isprintable() or not name:
            raise BadData(f"{where} has a class with an unprintable name, {printable(repr(name))}; rename it")
    if len(set(names)) < len(names):
        raise BadData(f"{where} names {len(names)} classes, and one name comes twice; rename one")
    return tuple(names)


def _laid(array: Array, where: str) -> tuple[Array, str | None]:
    """The images as (n, channels, height, width), and a note if the shape left a choice."""
    shape = " x ".join(map(str, array.shape))
    if not array.size:
        raise BadData(f"{where} has images of shape {shape}, which are none; save it again")
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        if side * side == array.shape[1]:
            return array.reshape(-1, 1, side, side), f"the rows of {where} are taken as grey images of {side}x{side}"
    if array.ndim == 3:
        return array[:, None], None
    if array.ndim == 4:
        first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
        note = f"{where} has images of shape {shape}: the channels are taken to be last" if first and last else None
        if last:
            return array.transpose(0, 3, 1, 2), note
        if first:
            return array, None
    raise BadData(
        f"{where} has images of shape {shape}; expected (n, height, width), or four dimensions with 1 or 3 channels last or "
        "second; lay transparent images on a background first"
    )


def _scale(arrays: Sequence[Array], where: str) -> tuple[float, float, str | None]:
    """Factor and offset that bring the values of all splits to levels of 0 to 255, and a note if that was not clear."""
    kinds = {array.dtype.kind for array in arrays}
    low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if not math.isfinite(low + high):
        raise BadData(f"{where} has images with values that are no finite numbers; leave those out")
    if all(array.dtype in (np.uint8, np.bool_) for array in arrays):
        return (float(_LEVELS) if kinds == {"b"} else 1.0), 0.0, None
    span = f"the values of {where}, {low:g} to {high:g}, are taken as"
    if "f" in kinds and low >= 0 and high <= 1:
        return float(_LEVELS), 0.0, None
    if "f" in kinds and -1 <= low < 0 and high <= 1:
        return _LEVELS / 2, 1.0, f"{span} images in -1 to 1 and brought to 0 to 1"
    if low >= 0 and high <= _LEVELS:
        dark = (
            f"{span} levels of 0 to {_LEVELS}; divide them by their largest if they are not"
            if high < _LEVELS / 4
            else None
        )
        return 1.0, 0.0, dark
    if low >= 0 and high <= _WORD and "f" not in kinds:
        return _LEVELS / _WORD, 0.0, f"{span} levels of 16 bits and brought to 8"
    raise BadData(
        f"{where} has images with values from {low:g} to {high:g}; expected 0 to 1, -1 to 1, or levels of 8 or 16 bits; undo the "
        f"normalisation first, or, if they are features and no images, write {ARRAYS},values={FEATURES}:FILE"
    )


def _levels(array: Array, factor: float, offset: float) -> npt.NDArray[np.uint8]:
    """round((v + offset) factor), in parts, so that no whole copy is made of floats."""
    if array.dtype == np.uint8 and factor == 1 and not offset:
        return np.ascontiguousarray(array)
    found = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _CHUNK):
        part = array[start : start + _CHUNK].astype(np.float64)
        found[start : start + _CHUNK] = np.rint((part + offset) * factor).clip(0, _LEVELS)
    return found


def _flat(array: Array, where: str) -> Array:
    """Labels as (n,), whole numbers or texts."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if (
        array.ndim == 2
        and array.dtype.kind in "buif"
        and np.isin(array, (0, 1)).all()
        and (array.sum(axis=1) == 1).all()
    ):
        return np.asarray(array.argmax(axis=1))
    if array.ndim != 1:
        raise BadData(
            f"{where} has labels of shape {' x '.join(map(str, array.shape))}; expected one for each image, or one-hot rows"
        )
    if array.dtype.kind in "biuUS":
        return texts(array, where)
    if array.dtype.kind == "f" and (np.abs(array) <= MOST).all() and (array == np.rint(array)).all():
        return array.astype(np.int64)
    raise BadData(f"{where} has labels of {array.dtype}; expected whole numbers or texts")
