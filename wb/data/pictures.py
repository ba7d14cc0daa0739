"""Decoding image files into one array, and saying which of them are broken."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from wb.core.errors import BadData
from wb.data.dataset import Progress, check_memory
from wb.data.resize import fit, planes

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MIXED_SIDE = 64  # pixels; for images of mixed sizes when no size is asked for
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")  # whatever the extension says, no decoder beyond these is started
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


class _Header(NamedTuple):
    height: int
    width: int
    grey: bool


def decode(
    paths: Sequence[Path], folder: Path, *, image_size: int | None = None, progress: Progress | None = None
) -> npt.NDArray[np.uint8]:
    """The pixels of `paths`, all under `folder`: (n, channels, height, width), uint8.

    One channel if every file is grey, else three. All images have the size `image_size` x `image_size`; without it,
    their own size if that is the same for all, else 64 x 64. An image of another size is scaled by its shorter side and
    cut to the centre. The orientation that a camera noted is applied. `progress(done, total)` is called after each.

    Raises:
        BadData: files are broken (one error for all of them), or the images would not fit into memory.

    Limits: transparency is ignored; a palette counts as colour; of 16-bit grey the upper 8 bits count; an image of more
    than Pillow's `MAX_IMAGE_PIXELS` is refused as a decompression bomb; of an animation, the first frame is read.
    """
    headers: dict[Path, _Header] = {}
    broken: dict[Path, str] = {}
    for path in paths:
        try:
            headers[path] = _header(path)
        except Exception as error:  # decoders of damaged files raise anything, down to SyntaxError
            broken[path] = _reason(path, error)
    if not headers:
        raise _refusal(broken, len(paths), folder)
    height, width = _common_size(headers.values(), image_size)
    grey = all(header.grey for header in headers.values())
    check_memory(len(paths), 1 if grey else 3, height, width, str(folder))
    images = np.empty((len(paths), 1 if grey else 3, height, width), np.uint8)
    for i, path in enumerate(paths):
        if path in headers:
            try:
                images[i] = _pixels(path, grey, height, width)
            except Exception as error:  # as above
                broken[path] = _reason(path, error)
        if progress is not None:
            progress(i + 1, len(paths))
    if broken:
        raise _refusal(broken, len(paths), folder)
    return images


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as slips in metadata that do not touch the pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=_FORMATS) as image:
            yield image


def _header(path: Path) -> _Header:
    with _opened(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        return _Header(height, width, image.mode in ("1", "L", "LA") or image.mode.startswith("I"))


def _pixels(path: Path, grey: bool, height: int, width: int) -> npt.NDArray[np.uint8]:
    with _opened(path) as image:
        turn = _TURNS.get(_orientation(image))
        picture = _plain(image, "L" if grey else "RGB")
        return planes(fit(picture if turn is None else picture.transpose(turn), height, width))


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # asking Pillow would decode the whole file in search of it
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse the pixels
        return 1


def _plain(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip or cut 16-bit grey; 257 maps 0..65535 on 0..255.
        image = Image.fromarray(np.clip(np.rint(np.asarray(image) / 257), 0, 255).astype(np.uint8))
    return image.convert(mode)


def _common_size(headers: Iterable[_Header], image_size: int | None) -> tuple[int, int]:
    if image_size is not None:
        return image_size, image_size
    sizes = {(header.height, header.width) for header in headers}
    return sizes.pop() if len(sizes) == 1 else (MIXED_SIDE, MIXED_SIDE)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        try:
            return "not an image" if path.stat().st_size else "an empty file"
        except OSError:
            return "not an image"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _refusal(broken: Mapping[Path, str], total: int, folder: Path) -> BadData:
    names = sorted(broken)
    shown = ", ".join(f"{name.relative_to(folder)} ({broken[name]})" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return BadData(f"{len(names)} of {total} images in {folder} cannot be read: {shown}{more}; remove or replace them")
