"""Reader of CIFAR-10 as its authors publish it: the binary version, or the Python version without trusting its pickles.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData
from wb.data.dataset import Labels, Split, check_memory
from wb.data.readers import plainpickle
from wb.data.readers.parts import Parts, with_validation
from wb.data.split import Images

_CLASSES = 10
_CHANNELS, _SIDE = 3, 32
_PIXELS = _CHANNELS * _SIDE * _SIDE
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DOWNLOAD = "unpack cifar-10-binary.tar.gz or cifar-10-python.tar.gz there again"

Rows = npt.NDArray[np.uint8]  # (n, 3072): red, green and blue plane, each row by row


def read(folder: Path) -> Parts:
    """Reads the five training batches and the test batch in `folder`, or in its `cifar-10-batches-bin` or `-py`.

    Images are (n, 3, 32, 32). Class names come from the batches' meta file if it exists.

    Raises:
        BadData: a batch is missing or damaged, or a pickle contains anything but plain data.
    """
    home, suffix = _home(folder)
    missing = [name + suffix for name in (*_TRAIN, "test_batch") if not (home / (name + suffix)).is_file()]
    if missing:
        raise BadData(f"{home} lacks {', '.join(missing)}; {_DOWNLOAD}")
    batch = _binary if suffix else _python
    size = sum((home / (name + suffix)).stat().st_size for name in (*_TRAIN, "test_batch"))
    check_memory(size // _PIXELS, _CHANNELS, _SIDE, _SIDE, str(home))
    train = _join([home / (name + suffix) for name in _TRAIN], batch)
    test = _join([home / f"test_batch{suffix}"], batch)
    names = _text_names(home) if suffix else _pickled_names(home)
    return with_validation(names, train, test, ("data_batch_1 to 5", "test_batch"))


def _home(folder: Path) -> tuple[Path, str]:
    """The folder with the batches, and the suffix of their names."""
    for home in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            if any((home / (name + suffix)).is_file() for name in (*_TRAIN, "test_batch")):
                return home, suffix
    raise BadData(
        f"{folder} holds no CIFAR-10 batches (data_batch_1.bin or data_batch_1, …), nor does a cifar-10-batches-bin or "
        f"cifar-10-batches-py in it; {_DOWNLOAD}"
    )


def _join(paths: list[Path], batch: Callable[[Path], tuple[Rows, Labels]]) -> Split:
    batches = [batch(path) for path in paths]
    for path, (_, labels) in zip(paths, batches, strict=True):
        if not len(labels):
            raise BadData(f"{path} holds no images; {_DOWNLOAD}")
        if labels.min() < 0 or labels.max() >= _CLASSES:
            raise BadData(f"{path} has labels {labels.min()} to {labels.max()}, and CIFAR-10 has 0 to 9; {_DOWNLOAD}")
    images = np.concatenate([rows.reshape(-1, _CHANNELS, _SIDE, _SIDE) for rows, _ in batches])
    return Images(images, np.concatenate([labels for _, labels in batches]))


def _binary(path: Path) -> tuple[Rows, Labels]:
    """Reads a binary batch: records of one label byte and 3,072 pixel bytes."""
    content = np.fromfile(path, np.uint8)
    if content.size % (1 + _PIXELS):
        raise BadData(
            f"{path} is truncated or something else: {content.size:,} bytes are not whole records of {1 + _PIXELS:,}; "
            f"{_DOWNLOAD}"
        )
    records = content.reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _python(path: Path) -> tuple[Rows, Labels]:
    content = plainpickle.load(path)
    rows = content.get(b"data")
    labels = content.get(b"labels")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != _PIXELS:
        found = f"an array of {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise BadData(f"{path} has {found} as 'data'; expected (n, {_PIXELS}) bytes; {_DOWNLOAD}")
    if not isinstance(labels, list) or not all(type(label) is int and abs(label) < 2**31 for label in labels):
        raise BadData(f"{path} has no list of whole numbers as 'labels'; {_DOWNLOAD}")
    if len(labels) != len(rows):
        raise BadData(f"{path} holds {len(rows):,} images and {len(labels):,} labels; {_DOWNLOAD}")
    return rows, np.array(labels, np.int64)


def _text_names(home: Path) -> tuple[str, ...]:
    path = home / "batches.meta.txt"
    if not path.is_file():
        return _NAMES
    return _checked(path, path.read_text(encoding="utf-8", errors="replace").split())


def _pickled_names(home: Path) -> tuple[str, ...]:
    path = home / "batches.meta"
    if not path.is_file():
        return _NAMES
    names = plainpickle.load(path).get(b"label_names")
    listed = names if isinstance(names, list) else []
    return _checked(path, [name.decode("utf-8", "replace") for name in listed if isinstance(name, bytes)])


def _checked(path: Path, names: list[str]) -> tuple[str, ...]:
    if len(set(names)) != _CLASSES:
        raise BadData(f"{path} names {len(set(names))} classes, and CIFAR-10 has {_CLASSES}; {_DOWNLOAD}")
    return tuple(names)
