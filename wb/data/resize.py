"""Resizing of images to one size: the shorter side is scaled to fit, the longer one cropped evenly."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from wb.data.dataset import Split, check_memory
from wb.data.split import Images


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """`image` (mode L or RGB) at `height` x `width` pixels, antialiased; untouched if it has that size already."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)


def resized(split: Split, side: int, what: str) -> Split:
    """`split` (uint8, 1 or 3 channels) with square images of `side` pixels; `what` names it in errors.

    Raises:
        BadData: it would not fit into memory.
    """
    count, channels, height, width = split.images.shape
    if (height, width) == (side, side):
        return split
    check_memory(count, channels, side, side, what)
    images = np.empty((count, channels, side, side), np.uint8)
    for i, image in enumerate(split.images):
        picture = Image.fromarray(image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        images[i] = planes(fit(picture, side, side))
    return Images(images, split.labels)


def planes(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pixels of an L or RGB image, (channels, height, width)."""
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
