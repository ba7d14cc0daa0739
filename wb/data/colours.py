"""Images in colour as grey ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wb.data.dataset import Split

_WEIGHTS = np.array([19595, 38470, 7471], np.int64)[:, None, None]  # of red, green and blue, of 2 ** 16
_HALF, _BITS = 1 << 15, 16
_CHUNK = 64  # images that are wide numbers at a time


def greyed(split: Split) -> Split:
    """Images in colour, uint8, as their luma, as Pillow converts RGB to L; grey ones as they are.

    Source: ITU-R BT.601, the weights .299, .587 and .114, in whole numbers.
    """
    count, channels, height, width = split.images.shape
    if channels != len(_WEIGHTS):
        return split
    grey = np.empty((count, 1, height, width), np.uint8)
    for start in range(0, count, _CHUNK):
        part = split.images[start : start + _CHUNK]
        grey[start : start + _CHUNK, 0] = ((part * _WEIGHTS).sum(axis=1) + _HALF) >> _BITS
    return replace(split, images=grey)
