"""How a folder of images is divided: `PATH/<class>/*`, or `PATH/train/<class>/*` with folders for the other splits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wb.core.errors import BadData

EXPECTED = (
    "expected PATH/<class>/*, or PATH/train/<class>/* with PATH/test/<class>/* or PATH/val/<class>/* or both beside it"
)
_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class Layout(NamedTuple):
    """The folders that hold the class folders of each split: without any names, all is in `train`."""

    train: Path
    validation: Path | None = None
    test: Path | None = None
    named: bool = False


def folders(place: Path) -> list[Path]:
    """The folders in `place`, sorted, without hidden ones."""
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def layout(top: Path) -> Layout:
    """What `top` is divided into. Names of splits are known in any case (Train, TEST) and in several words (val, valid, dev).

    A folder that is called like a split but holds images and no folders may as well be a class: trains.

    Raises:
        BadData: two folders for one split, or none for training.
    """
    splits = {role: [path for path in folders(top) if path.name.lower() in names] for role, names in _NAMES.items()}
    train = splits["train"]
    others = [*splits["validation"], *splits["test"]]
    if train and (others or folders(train[0])):
        for role, paths in splits.items():
            if len(paths) > 1:
                names = " and ".join(f"{path.name}/" for path in paths)
                raise BadData(f"{top} has {names}, and both are for {role}; rename or remove one")
        validation, test = (next(iter(splits[role]), None) for role in ("validation", "test"))
        return Layout(train[0], validation, test, named=True)
    lonely = [path for path in others if folders(path)]
    if lonely:
        raise BadData(f"{top} has {' and '.join(f'{path.name}/' for path in lonely)} and no train/; {EXPECTED}")
    return Layout(top)
