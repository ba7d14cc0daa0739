"""Reader of image folders: one folder per class, with or without folders for splits (`wb.data.readers.layout`).

Images are all files that Pillow can read. Hidden files, other files and deeper folders are ignored, and a note says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wb.core.errors import BadData
from wb.data.dataset import Progress
from wb.data.formats import Listing, joined, listing, usual
from wb.data.readers.layout import EXPECTED, Layout, folders, layout
from wb.data.readers.parts import ROLES, Parts, divided
from wb.data.readers.pictures import decode
from wb.data.spec import WHITE
from wb.data.split import Images

_FEWEST = 3  # images per class, at least: one for each split
_SHOWN = 3  # names of folders in a note, at most


def read(
    folder: Path, *, image_size: int | None = None, background: str = WHITE, progress: Progress | None = None
) -> Parts:
    """Reads the images in `folder`. Classes are the names of the folders, sorted.

    For sizes, channels and `background` see `pictures.decode`. Without folders for validation and test, the images are split
    into 70 % training, 15 % validation and 15 % test. If one of the two is missing, 10 % of training (at most 5,000) are used
    for it. All splits are stratified. Test and validation may lack classes that training has.

    Raises:
        BadData: a folder is missing or empty, a class is too small or unknown to training, or images are broken.
        BadOption: `background` is not a colour.
    """
    division = layout(folder)
    places = [place for _, place in _there(division)]
    names = _classes(places[0])
    labels = {name: label for label, name in enumerate(names)}
    found = [_listings(place, labels) for place in places]
    files = [[(path, label) for label, part in classes for path in part.images] for classes in found]
    _check_enough(places[0], names, [label for _, label in files[0]])
    listed = [pair for part in files for pair in part]
    decoded = decode(
        [path for path, _ in listed], folder, image_size=image_size, background=background, progress=progress
    )
    whole = Images(decoded.images, np.array([label for _, label in listed], np.int64))
    ends = np.cumsum([len(part) for part in files]).tolist()
    parts = [whole.take(slice(end - len(part), end)) for part, end in zip(files, ends, strict=True)]
    if len(parts) == 2:  # validation is copied out of training, and a view of the other would keep the pixels of both
        parts[1] = parts[1].take(np.arange(len(parts[1])))
    left = (_beside(folder, division), _inside(folder, joined(part for classes in found for _, part in classes)))
    named = {
        role: (place.name + "/" if division.named else "all images", part)
        for (role, place), part in zip(_there(division), parts, strict=True)
    }
    whole_set = divided(names, named, str(folder))
    notes = (*left, *decoded.notes, *(whole_set.notes if division.named else ()))
    return whole_set._replace(notes=tuple(text for text in notes if text is not None))


def _there(division: Layout) -> list[tuple[str, Path]]:
    """The folder of each split that has one, by its role."""
    return [(role, place) for role, place in zip(ROLES, division[:3], strict=True) if place is not None]


def _beside(top: Path, division: Layout) -> str | None:
    """A note on ignored files and folders beside the folders of splits or classes; None if there are none."""
    read = {place.name for place in division[:3] if place is not None}
    tops = [place for place in division[:3] if place is not None and place != top]
    above = listing([top, *tops])
    strays = [path for path in above.folders if path.parent == top and path.name not in read] if tops else []
    text = above._replace(images=[], others=above.images + above.others, folders=strays).left_out(top)
    return None if text is None else f"{text}, beside the folders of {'splits or ' if tops else ''}classes"


def _inside(top: Path, inside: Listing) -> str | None:
    """A note on ignored files and folders inside the class folders; None if there are none."""
    text = inside.left_out(top)
    strays = (*inside.others, *inside.hidden, *inside.folders)
    names = [f"{home}/" for home in sorted({path.parent.relative_to(top) for path in strays})]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return text and f"{text}, in the class folder{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"


def _classes(place: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in folders(place))
    if len(names) < 2:
        found = f"only the class folder {names[0]!r}" if names else "no class folders"
        raise BadData(f"{place} has {found}, and at least two classes are needed; {EXPECTED}")
    for name in names:
        if not name.isprintable():  # undecodable bytes too; names end in files that have to be valid Unicode
            raise BadData(f"{place} has a class folder with an unprintable name, {name!r}; rename it")
    return names


def _listings(place: Path, labels: dict[str, int]) -> list[tuple[int, Listing]]:
    """The label and the content of each class folder."""
    found: list[tuple[int, Listing]] = []
    for home in folders(place):
        if home.name not in labels:
            raise BadData(f"{place} has the class {home.name!r}, which training lacks; add it there or remove it here")
        part = listing([home])
        if not part.images:
            left = part.left_out(home)
            raise BadData(
                f"{home} has no images ({usual()}){f'; {left}' if left else ''}; add some or remove the folder"
            )
        found.append((labels[home.name], part))
    if not found:
        raise BadData(f"{place} has no class folders; {EXPECTED}")
    return found


def _check_enough(place: Path, names: tuple[str, ...], labels: list[int]) -> None:
    counts = np.bincount(labels, minlength=len(names))
    short = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < _FEWEST]
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise BadData(
            f"{place} has classes with fewer than {_FEWEST} images: {', '.join(short[:5])}{more}; "
            "add images or remove the classes"
        )
