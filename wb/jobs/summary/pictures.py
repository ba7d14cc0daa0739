"""Samples of a data set as pictures: one by one for a page, or all on one sheet."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from wb.core.system.files import replacing
from wb.data.dataset import Dataset, Split

EACH = 10  # samples of a class
CLASSES = 50  # classes that are shown, at most
_SIDE = 96  # pixels; larger images are reduced to it
_LEAST = 48  # pixels on the sheet; smaller images are enlarged, each pixel to a square
_GAP, _TEXT = 4, 120

Picture = npt.NDArray[np.uint8]  # (height, width) or (height, width, 3)


def sampled(split: Split, label: int, count: int = EACH) -> list[int]:
    """The indices of at most `count` images of a class, evenly spread over the order of the split."""
    places = np.flatnonzero(split.labels == label)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
    return [int(i) for i in places[chosen]]


def picture(split: Split, index: int) -> Image.Image:
    """An image of the split, reduced if it is large."""
    levels = split.shown(index)
    shown = Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels[:3].transpose(1, 2, 0)))
    if max(shown.size) > _SIDE:
        shown.thumbnail((_SIDE, _SIDE))
    return shown


def shown_as(split: Split, index: int, called: str) -> Markup:
    """An example on a page: a picture that is `called` so, or the text itself."""
    if split.vocabulary is None:
        return Markup('<img src="{}" alt="{}">').format(data_uri(picture(split, index)), called)
    return Markup("<q>{}</q>").format(split.line(index))


def data_uri(image: Image.Image) -> str:
    """The image as a PNG within a page."""
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def write_sheet(data: Dataset, classes: Sequence[int], path: Path, *, force: bool = False) -> None:
    """Writes a picture with a row of training images for each of these classes, by label, under its name.

    Raises:
        BadOption: the file exists and `force` is false.
        StorageFailed: it could not be written.
    """
    rows = [[_enlarged(picture(data.train, i)) for i in sampled(data.train, label)] for label in classes[:CLASSES]]
    height = max((one.height for row in rows for one in row), default=_LEAST)
    width = max((one.width for row in rows for one in row), default=_LEAST)
    size = (_TEXT + EACH * (width + _GAP) + _GAP, len(rows) * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for r, (label, row) in enumerate(zip(classes, rows, strict=False)):
        top = _GAP + r * (height + _GAP)
        draw.text((_GAP * 2, top + height // 2), data.classes[label][:16], fill="black", font=font, anchor="lm")
        for c, one in enumerate(row):
            sheet.paste(one, (_TEXT + c * (width + _GAP), top))
    with replacing(path, force=force) as temporary:
        sheet.save(temporary, "png", optimize=True)


def _enlarged(image: Image.Image) -> Image.Image:
    """The image, each pixel a square of as many as it takes to be seen."""
    factor = -(-_LEAST // max(image.size))
    return (
        image if factor == 1 else image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    )
