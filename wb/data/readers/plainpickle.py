"""Reading a pickle of plain data and byte arrays without running any code that it names.

A pickle is a program that may call any importable function. Here the few names that numpy's arrays and Python 2's strings
need are replaced by inert stand-ins of this module, and every other name is refused. The array is made from a stand-in after
its type and size were checked, so numpy's own constructors never get values from the file. Before that, the pickle is
scanned for content that would crash or stall the process (`wb.core.system.pickles`).
"""

from __future__ import annotations

import math
import mmap
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData
from wb.core.system.pickles import DamagedPickle, SuspiciousPickle, scan


class _Array:
    """Stand-in for a numpy array: keeps (version, shape, type, column order, bytes) for later."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Type:
    """Stand-in for a numpy dtype: keeps its code, such as `u1`."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignores byte order and alignment, which have no meaning for single bytes."""


def _array(*_: object) -> _Array:
    return _Array()


def _bytes(text: object, codec: object) -> bytes:
    if not isinstance(text, str) or codec != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {codec!r}")
    return text.encode("latin1")


_STANDINS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _bytes,
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows the stand-ins and no other names."""

    def find_class(self, module: str, name: str, /) -> Any:
        """The stand-in of an allowed name; imports nothing."""
        try:
            return _STANDINS[module, name]
        except KeyError:
            raise BadData(f"it asks for {module}.{name}, which a file of images never needs") from None


def load(path: Path) -> dict[object, object]:
    """Reads the pickled dictionary at `path`. Strings of Python 2 become bytes, byte arrays among its values uint8 arrays.

    Raises:
        BadData: the file is not a pickle of a dictionary, holds an array of another type, or uses a name that is not allowed.
        OSError: the file cannot be read.

    Limits: arrays are converted only as values of the dictionary, not inside other objects.
    """
    try:
        with path.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                scan(mapped, len(mapped))
            content = _Reader(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise BadData(f"it holds a {type(content).__name__}, not a dictionary")
        return {key: _made(value) if isinstance(value, _Array) else value for key, value in content.items()}
    except DamagedPickle as error:
        raise BadData(f"{path} is damaged or no pickle ({error}); get it from its source again") from None
    except (BadData, SuspiciousPickle) as error:
        raise BadData(f"{path} is refused: {error}; get it from its source again") from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle fails in any way; none of them may end in a traceback
        detail = f"{type(error).__name__}: {error}"
        raise BadData(f"{path} is damaged or no pickle ({detail}); get it from its source again") from error


def _made(record: _Array) -> npt.NDArray[np.uint8]:
    state = record.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise BadData("it holds an array without content")
    _, shape, kind, columns, content = state
    if not isinstance(kind, _Type) or kind.code not in ("u1", b"u1"):
        raise BadData("it holds an array of another type than bytes")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadData("it holds an array of impossible shape")
    if not isinstance(content, bytes) or len(content) != math.prod(shape):
        raise BadData(f"it holds an array of shape {shape} whose content has another size")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if columns else "C")
