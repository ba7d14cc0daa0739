"""The layout of an image folder: `PATH/<class>/*`, or `PATH/train/<class>/*` with folders for the other splits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wb.core.errors import BadData
from wb.data.readers.parts import NAMES

EXPECTED = (
    "expected PATH/<class>/*, or PATH/train/<class>/* with PATH/test/<class>/* or PATH/val/<class>/* or both beside it"
)


class Layout(NamedTuple):
    """The folder of each split, which holds its class folders. Without folders for splits (`named`), `train` holds all."""

    train: Path
    validation: Path | None = None
    test: Path | None = None
    named: bool = False


def folders(place: Path) -> list[Path]:
    """The folders in `place`, sorted; hidden ones are left out."""
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def layout(top: Path) -> Layout:
    """Finds the folders of splits in `top`, by name in any case (Train, TEST) and with synonyms (val, valid, dev).

    A folder named like a split that holds images instead of folders may be a class: "train" may mean railway trains.

    Raises:
        BadData: there are two folders for one split, or no folder for training.
    """
    splits = {role: [path for path in folders(top) if path.name.lower() in names] for role, names in NAMES.items()}
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
