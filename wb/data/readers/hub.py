"""Reader of data sets of Hugging Face's library `datasets`: a folder of parquet or arrow files, or a name on the hub.

A folder is one that `save_to_disk` wrote, or a copy of a repository of the hub. Levels are read from a column of images, which
are files inside a file and are decoded here, or from one of arrays. Splits other than training, validation and test are left out.

Source: https://huggingface.co/docs/datasets
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wb.core.errors import BadData, BadOption, MissingExtra, WbError, printable, reason
from wb.data.dataset import MAX_BYTES, Levels, Progress, Split
from wb.data.readers import numbers
from wb.data.readers.parts import NAMES, ROLES, Parts, divided, labelled
from wb.data.readers.pictures import Stored, decode
from wb.data.spec import HUB, Spec
from wb.data.split import Images

PACKAGE = "datasets"
OLDEST = 4  # earlier versions ran the code that a data set may bring
_IMAGES = ("image", "img", "images", "picture", "pixel_values", "x")
_LABELS = ("label", "labels", "target", "class", "y")
_AT_ONCE = 512  # rows in memory besides their images
_FILES = ("*.parquet", "*.arrow")


class _Columns(NamedTuple):
    """The columns of images and of labels, and the names of the classes, as far as the data set says them."""

    image: str
    label: str
    classes: tuple[str, ...]


def read(spec: Spec, *, image_size: int | None = None, progress: Progress | None = None) -> Parts:
    """Reads the data set that `spec` names. For sizes, channels and transparency see `pictures.decode`.

    The columns are those of `spec.choices`, else those that hold images and classes or are called so.

    Raises:
        MissingExtra: the library is not installed, or too old.
        BadOption: a column or configuration that there is not, or a choice that has to be made.
        BadData: there is no such data set, no connection, or it has no images with labels.
    """
    library = _library()
    choices = dict(spec.choices)
    with _quiet(library), _words(spec):
        found = _opened(library, spec, choices.get("config"))
        called, others = _splits(found)
        columns = _columns(next(iter(called.values()))[1].features, choices, spec)
        pixels, notes = _pixels(called, columns, spec, image_size, progress)
        kept = _filled([table[columns.label] for _, table in called.values()])
    classes, answers = numbers.labels(kept, columns.classes, spec.place)
    splits: dict[str, tuple[str, Split]] = {
        role: (name, Images(one, other))
        for (role, (name, _)), one, other in zip(called.items(), pixels, answers, strict=True)
    }
    splits, without = labelled(splits, spec.place)
    left = (
        [f"left out of {spec.place}: the split{'s' if len(others) > 1 else ''} {', '.join(others)}"] if others else []
    )
    parts = divided(classes, splits, spec.place)
    return parts._replace(notes=(*left, *notes, *without, *parts.notes))


def _library() -> Any:
    try:
        library = importlib.import_module(PACKAGE)
    except ImportError as error:
        raise MissingExtra(
            f"data {HUB}:… need the package {PACKAGE}, which cannot be imported ({reason(error)}); "
            "pip install 'wb[hf-data]' installs it"
        ) from error
    version = str(getattr(library, "__version__", "0"))
    if int(version.partition(".")[0]) < OLDEST:
        raise MissingExtra(
            f"{PACKAGE} {version} is too old: before {OLDEST}.0 it runs code that data sets bring; "
            "pip install --upgrade 'wb[hf-data]'"
        )
    return library


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's own bars; progress is shown by whoever asked for it."""
    before = bool(library.are_progress_bars_disabled())
    library.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            library.enable_progress_bars()


@contextmanager
def _words(spec: Spec) -> Iterator[None]:
    """What the library raises, in words; it has many kinds of errors, and those of damaged files are of others."""
    try:
        yield
    except (WbError, MemoryError):
        raise
    except Exception as error:
        where = "on the hub, or there is no connection to it" if spec.on_the_hub else "in that folder, or it is damaged"
        raise BadData(
            f"data {spec.text()!r} cannot be read: no such data set {where} ({type(error).__name__}: {reason(error)}); "
            f"{HUB}: takes a name on the hub, or a folder of parquet or arrow files"
        ) from error


def _opened(library: Any, spec: Spec, config: str | None) -> Mapping[str, Any]:
    """The tables of a data set by the names of their splits."""
    if spec.on_the_hub:
        found = _loaded(library, spec, config)
    else:
        folder = Path(spec.place).expanduser()
        if not folder.is_dir():
            raise BadData(
                f"{folder} is no folder; {HUB}: takes a name on the hub, or a folder of parquet or arrow files"
            )
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found = library.load_from_disk(str(folder))
        elif any(True for pattern in _FILES for _ in folder.rglob(pattern)):
            found = _loaded(library, spec, config)
        else:
            raise BadData(
                f"{folder} has no parquet or arrow files, and `save_to_disk` did not write it; a folder of images is "
                f"imagefolder:{spec.place}"
            )
    return found if isinstance(found, dict) else {"train": found}


def _loaded(library: Any, spec: Spec, config: str | None) -> Any:
    try:
        return library.load_dataset(spec.place, config)
    except ValueError as error:
        if "onfig" in str(error):  # "Config name is missing", "BuilderConfig … not found"; both list what there is
            raise BadOption(
                f"data {spec.text()!r}: {printable(' '.join(str(error).split()), 600)}; say which with "
                f"{HUB},config=NAME:{spec.place}"
            ) from error
        raise


def _splits(found: Mapping[str, Any]) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """The name and the table of each split by its role, and the names of the others; one alone is for training."""
    if len(found) == 1:
        return {"train": next(iter(found.items()))}, []
    roles = {name: role for role in ROLES for name in NAMES[role]}
    called: dict[str, tuple[str, Any]] = {}
    for name, table in found.items():
        role = roles.get(name.lower())
        if role is not None and role not in called:
            called[role] = (name, table)
    if "train" not in called:
        raise BadData(f"the data set has the splits {', '.join(map(printable, found))}, and none of them is train")
    return called, sorted(name for name in found if name not in {one for one, _ in called.values()})


def _columns(features: Mapping[str, Any], choices: Mapping[str, str], spec: Spec) -> _Columns:
    """The columns to read, from what they are and what they are called."""
    pictures = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    classes = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    image = _column("image", choices, features, pictures, _IMAGES, spec)
    label = _column("label", choices, features, classes, _LABELS, spec)
    names = getattr(features[label], "names", None) if label in classes else None
    return _Columns(image, label, tuple(map(str, names or ())))


def _column(
    what: str,
    choices: Mapping[str, str],
    features: Mapping[str, Any],
    typed: list[str],
    usual: tuple[str, ...],
    spec: Spec,
) -> str:
    """The column that was asked for, else the only one of its type, else the first that is called as usual."""
    there = ", ".join(map(printable, features))
    asked = choices.get(what)
    if asked is not None:
        if asked not in features:
            raise BadOption(f"data {spec.text()!r}: there is no column {asked!r}; there are {there}")
        return asked
    named = [name for name in usual if name in (typed or features)]
    found = typed if len(typed) == 1 else named
    if not found:
        raise BadOption(
            f"data {spec.text()!r}: which column has the {what}s cannot be told; say {HUB},{what}=COLUMN:{spec.place}; there are "
            f"{there}"
        )
    return found[0]


def _pixels(
    called: Mapping[str, tuple[str, Any]],
    columns: _Columns,
    spec: Spec,
    image_size: int | None,
    progress: Progress | None,
) -> tuple[list[Levels], list[str]]:
    """The images of each split, and notes on them."""
    first = next(iter(called.values()))[1]
    if not len(first):
        raise BadData(f"the training split of {spec.place} is empty")
    if type(first.features[columns.image]).__name__ != "Image" and not _is_file(first[0][columns.image]):
        arrays = [np.asarray(table.with_format("numpy")[columns.image][:]) for _, table in called.values()]
        return numbers.images(arrays, spec.place)
    files = [list(_files(name, table, columns.image, first.features, spec)) for name, table in called.values()]
    decoded = decode(
        [one for part in files for one in part],
        spec.place,
        image_size=image_size,
        background=spec.background,
        progress=progress,
    )
    ends = np.cumsum([len(part) for part in files]).tolist()
    pixels: list[Levels] = [decoded.images[end - len(part) : end] for part, end in zip(files, ends, strict=True)]
    return pixels, list(decoded.notes)


def _is_file(value: Any) -> bool:
    """Whether a value is a stored image file, as the library keeps them."""
    return isinstance(value, dict) and "bytes" in value


def _files(name: str, table: Any, column: str, features: Mapping[str, Any], spec: Spec) -> Iterator[Stored | Path]:
    """The image files in a column, not decoded."""
    if type(features[column]).__name__ == "Image":
        table = table.cast_column(column, type(features[column])(decode=False))
    total = 0
    for start in range(0, len(table), _AT_ONCE):
        for i, value in enumerate(table[start : start + _AT_ONCE][column], start=start):
            content = value.get("bytes") if _is_file(value) else None
            if content is None:
                raise BadData(
                    f"{spec.place} has no image in row {i} of {name}, but a path or nothing; images have to be inside the files"
                )
            total += len(content)
            if total > MAX_BYTES:
                raise BadData(
                    f"{spec.place}: the images of {name} have more than {MAX_BYTES / 2**30:,.1f} GB, and no more are held; make "
                    "a smaller data set with `select` and save_to_disk"
                )
            yield Stored(f"{name}, row {i}", content)


def _filled(columns: Sequence[Iterable[Any]]) -> list[numbers.Array]:
    """The labels of each split; those that are missing are as those that are kept secret: negative, or an empty text."""
    lists = [list(column) for column in columns]
    missing = "" if any(isinstance(value, str) for values in lists for value in values) else numbers.UNLABELLED
    return [np.asarray([missing if value is None else value for value in values]) for values in lists]
