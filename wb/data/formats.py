"""Image formats that Pillow reads by itself, and the listing of folders with images and other files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

_OTHERS = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))  # Pillow cannot decode these by itself
_USUAL = (".jpg", ".png", ".tif", ".webp", ".bmp", ".gif", ".ppm")
_SHOWN = 3


@cache
def extensions() -> dict[str, str]:
    """The endings of image files in lower case -> their format."""
    Image.init()
    readable = set(Image.OPEN) - _OTHERS
    return {end: form for end, form in Image.registered_extensions().items() if form in readable}


@cache
def formats() -> tuple[str, ...]:
    """The decoders that Pillow may use, regardless of a file's ending."""
    return tuple(sorted(set(extensions().values())))


def usual() -> str:
    """The most common endings, for messages."""
    return f"{', '.join(_USUAL)} and others"


class Listing(NamedTuple):
    """The contents of some folders: images, sorted within each folder, and everything else."""

    images: list[Path]
    others: list[Path]
    hidden: list[Path]
    folders: list[Path]

    def left_out(self, top: Path) -> str | None:
        """A sentence that counts everything that is no image; None if there is nothing."""
        parts = []
        if self.others:
            kinds = Counter(path.suffix.lower() or path.name for path in self.others)
            shown = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN))
            more = f" and {len(kinds) - _SHOWN} more kinds" if len(kinds) > _SHOWN else ""
            parts.append(f"{_count(len(self.others), 'file')} of other kinds ({shown}{more})")
        if self.hidden:
            parts.append(_count(len(self.hidden), "hidden file"))
        if self.folders:
            names = ", ".join(f"{path.relative_to(top)}/" for path in self.folders[:_SHOWN])
            more = f" and {len(self.folders) - _SHOWN} more" if len(self.folders) > _SHOWN else ""
            parts.append(f"{_count(len(self.folders), 'folder')} ({names}{more})")
        return f"left out of {top}: {', '.join(parts)}" if parts else None


def listing(homes: Iterable[Path]) -> Listing:
    """The contents of the folders `homes`, not recursive. Broken links and pipes named like images are listed, to be refused."""
    found = Listing([], [], [], [])
    for home in homes:
        for path in sorted(home.iterdir()):
            if path.name.startswith("."):
                found.hidden.append(path)
            elif path.is_dir():
                found.folders.append(path)
            else:
                (found.images if path.suffix.lower() in extensions() else found.others).append(path)
    return found


def joined(parts: Iterable[Listing]) -> Listing:
    """Several listings as one."""
    whole = Listing([], [], [], [])
    for part in parts:
        for mine, theirs in zip(whole, part, strict=True):
            mine += theirs
    return whole


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
