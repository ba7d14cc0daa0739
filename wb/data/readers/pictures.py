"""Decoding image files into one array, and reporting broken ones."""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from wb.core.errors import BadData, printable
from wb.core.system.files import irregular
from wb.data.dataset import Progress, check_memory
from wb.data.formats import formats
from wb.data.readers.flat import Colour, flattened, is_grey
from wb.data.resize import fit, planes
from wb.data.spec import WHITE, levels

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its messages on damaged files do not name the file

MIXED_SIDE = 64  # pixels; the size for images of mixed sizes, unless one is requested
_SHOWN = 3
_ORIENTATION = 0x0112  # EXIF tag: how the camera was held
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """Pixels (n, channels, height, width), uint8, and notes for the user on how they were made."""

    images: npt.NDArray[np.uint8]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Stored:
    """An image file inside another file, by a name for messages."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


File = Path | Stored


class _Header(NamedTuple):
    height: int
    width: int
    grey: bool
    clear: bool  # may have transparent parts


def decode(
    paths: Sequence[File],
    folder: Path | str,
    *,
    image_size: int | None = None,
    background: str = WHITE,
    progress: Progress | None = None,
) -> Decoded:
    """Decodes the image files `paths`, which are all under `folder`, or stored in files there.

    Images have one channel if every file is grey, else three. Their size is `image_size` x `image_size`; by default their own
    size if that is the same for all, else 64 x 64, which a note says. An image of another size is scaled by its shorter side
    and cropped to the centre. The orientation in the camera's metadata is applied. Transparent parts are put on the colour
    `background`. `progress(done, total)` is called after each image.

    Raises:
        BadData: files are broken or not regular (one error for all of them), or the images would not fit into memory.
        BadOption: `background` is not a colour.

    Limits: a palette counts as colour; 16-bit grey is reduced to 8 bits; an image of more than Pillow's `MAX_IMAGE_PIXELS` is
    refused as a decompression bomb; only the first frame of an animation is read.
    """
    ground = levels(background)
    headers: dict[File, _Header] = {}
    broken: dict[File, str] = {}
    for path in paths:
        try:
            headers[path] = _header(path)
        except Exception as error:  # decoders of damaged files raise anything, down to SyntaxError
            broken[path] = _reason(path, error)
    if not headers:
        raise _refusal(broken, len(paths), folder)
    sizes = Counter((header.height, header.width) for header in headers.values())
    height, width = _common_size(sizes, image_size)
    coloured = len(set(ground)) > 1
    grey = all(header.grey and not (header.clear and coloured) for header in headers.values())
    check_memory(len(paths), 1 if grey else 3, height, width, str(folder))
    images = np.empty((len(paths), 1 if grey else 3, height, width), np.uint8)
    clear = 0
    for i, path in enumerate(paths):
        if path in headers:
            try:
                images[i], transparent = _pixels(path, grey, height, width, ground)
                clear += transparent
            except Exception as error:  # as above
                broken[path] = _reason(path, error)
        if progress is not None:
            progress(i + 1, len(paths))
    if broken:
        raise _refusal(broken, len(paths), folder)
    return Decoded(images, _notes(sizes, image_size, clear, background, folder))


def check(paths: Sequence[File]) -> None:
    """Raises `BadData`, one error for all, if the headers of some of the image files `paths` cannot be read."""
    broken: dict[File, str] = {}
    for path in paths:
        try:
            _header(path)
        except Exception as error:  # as above
            broken[path] = _reason(path, error)
    if broken:
        raise _refusal(broken, len(paths), None)


@contextmanager
def _opened(path: File) -> Iterator[Image.Image]:
    why = irregular(path) if isinstance(path, Path) else None
    if why is not None:
        raise ValueError(why.removeprefix("is "))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. errors in metadata that do not affect the pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        source = path if isinstance(path, Path) else io.BytesIO(path.content)
        with Image.open(source, formats=formats()) as image:
            yield image


def _header(path: File) -> _Header:
    with _opened(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        return _Header(height, width, is_grey(image), image.has_transparency_data)


def _pixels(
    path: File, grey: bool, height: int, width: int, ground: Colour
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], bool]:
    with _opened(path) as image:
        turn = _TURNS.get(_orientation(image))
        picture, clear = flattened(image, ground)
        picture = picture.convert("L" if grey else "RGB")
        return planes(fit(picture if turn is None else picture.transpose(turn), height, width)), clear


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole file to search for it
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse the image
        return 1


def _common_size(sizes: Counter[tuple[int, int]], image_size: int | None) -> tuple[int, int]:
    if image_size is not None:
        return image_size, image_size
    return next(iter(sizes)) if len(sizes) == 1 else (MIXED_SIDE, MIXED_SIDE)


def _notes(
    sizes: Counter[tuple[int, int]], image_size: int | None, clear: int, background: str, folder: Path | str
) -> tuple[str, ...]:
    notes = []
    if image_size is None and len(sizes) > 1:
        small, large = (f"{width}x{height}" for height, width in (f(sizes, key=_area) for f in (min, max)))
        notes.append(
            f"the images of {folder} have {len(sizes)} sizes, {small} to {large} pixels: all are brought to "
            f"{MIXED_SIDE}x{MIXED_SIDE}, scaled by the shorter side and cut to the centre; choose another side with --image-size"
        )
    if clear:
        notes.append(
            f"{clear:,} of {sizes.total():,} images of {folder} are transparent in parts: they are laid on {background} "
            "(--background)"
        )
    return tuple(notes)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _reason(path: File, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        try:
            size = path.stat().st_size if isinstance(path, Path) else len(path.content)
            return "not an image" if size else "an empty file"
        except OSError:
            return "not an image"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error)) or type(error).__name__


def _refusal(broken: Mapping[File, str], total: int, folder: Path | str | None) -> BadData:
    """The error that names the broken files, seen from `folder` if they are all in one."""
    names = sorted(broken, key=str)
    shown = ", ".join(f"{printable(_seen(name, folder))} ({broken[name]})" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    inside = "" if folder is None else f" in {folder}"
    return BadData(f"{len(names)} of {total} images{inside} cannot be read: {shown}{more}; remove or replace them")


def _seen(file: File, folder: Path | str | None) -> str:
    """The name of a file, from `folder` if it is there."""
    return str(file.relative_to(folder) if isinstance(file, Path) and isinstance(folder, Path) else file)
