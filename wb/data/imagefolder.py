"""Folders of images, one folder for each class.

Either `PATH/train/<class>/*` and `PATH/test/<class>/*`, with `PATH/val` or `PATH/validation` if there is one, or just
`PATH/<class>/*`. Files are jpg, jpeg, png, bmp or webp; hidden files, other files and deeper folders are ignored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wb.core.errors import BadData
from wb.data.dataset import Progress, Split
from wb.data.parts import Parts, with_validation
from wb.data.pictures import EXTENSIONS, decode
from wb.data.stratify import carve

_FEWEST = 3  # images of a class: one for each split
_LAYOUT = "expected PATH/train/<class>/* and PATH/test/<class>/*, or PATH/<class>/*"


def read(folder: Path, *, image_size: int | None = None, progress: Progress | None = None) -> Parts:
    """Classes are the names of the folders, sorted. Sizes and channels are as `wb.data.pictures.decode` says.

    Without a test folder the images are split 70 % training, 15 % validation, 15 % test; with one but without a
    validation folder, 10 % of training (at most 5,000) become validation; always stratified. Test and validation may
    lack classes that training has.

    Raises:
        BadData: a folder is missing or empty, a class is too small or unknown to training, or images are broken.
    """
    places = _places(folder)
    names = _classes(places[0])
    labels = {name: label for label, name in enumerate(names)}
    files = [_files(place, labels) for place in places]
    _check_enough(places[0], names, [label for _, label in files[0]])
    listed = [pair for part in files for pair in part]
    images = decode([path for path, _ in listed], folder, image_size=image_size, progress=progress)
    whole = Split(images, np.array([label for _, label in listed], np.int64))
    ends = np.cumsum([len(part) for part in files]).tolist()
    parts = [whole.take(slice(end - len(part), end)) for part, end in zip(files, ends, strict=True)]
    if len(parts) == 1:
        rest, test = carve(whole, 0.15)
        train, validation = carve(rest, 0.15 / 0.85)
        return Parts(names, train, validation, test)
    if len(parts) == 2:
        return with_validation(names, *parts)
    return Parts(names, parts[0], parts[2], parts[1])


def _places(folder: Path) -> list[Path]:
    """`[folder]`, `[train, test]` or `[train, test, validation]`."""
    train, test = folder / "train", folder / "test"
    if train.is_dir() and test.is_dir():
        return [train, test, *[place for place in (folder / "val", folder / "validation") if place.is_dir()][:1]]
    for present, absent in ((train, test), (test, train)):
        # A folder `train` that holds images and no folders may as well be a class: trains.
        if present.is_dir() and _folders(present):
            raise BadData(f"{folder} has {present.name}/ and no {absent.name}/; {_LAYOUT}")
    return [folder]


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(place: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders(place))
    if len(names) < 2:
        found = f"only the class folder {names[0]!r}" if names else "no class folders"
        raise BadData(f"{place} has {found}, and at least two classes are needed; {_LAYOUT}")
    for name in names:
        if not name.isprintable():  # undecodable bytes too; names end in files that have to be valid Unicode
            raise BadData(f"{place} has a class folder with an unprintable name, {name!r}; rename it")
    return names


def _files(place: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    """The image files of each class with its label, sorted."""
    listed: list[tuple[Path, int]] = []
    for home in _folders(place):
        if home.name not in labels:
            raise BadData(f"{place} has the class {home.name!r}, which training lacks; add it there or remove it here")
        images = sorted(path for path in home.iterdir() if _is_image(path))
        if not images:
            raise BadData(f"{home} has no images ({', '.join(EXTENSIONS)}); add some or remove the folder")
        listed += [(path, labels[home.name]) for path in images]
    if not listed:
        raise BadData(f"{place} has no class folders; {_LAYOUT}")
    return listed


def _is_image(path: Path) -> bool:
    # Not is_file(): a link to nowhere has to be reported as broken, not skipped.
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and not path.is_dir()


def _check_enough(place: Path, names: tuple[str, ...], labels: list[int]) -> None:
    counts = np.bincount(labels, minlength=len(names))
    short = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < _FEWEST]
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise BadData(
            f"{place} has classes with fewer than {_FEWEST} images: {', '.join(short[:5])}{more}; "
            "add images or remove the classes"
        )
