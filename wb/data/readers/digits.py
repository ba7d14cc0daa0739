"""Reader of scikit-learn's 1,797 handwritten digits of 8x8 grey pixels, which come with the library."""

from __future__ import annotations

import numpy as np

from wb.data.readers.parts import Parts
from wb.data.split import Images
from wb.data.stratify import carve

_LEVELS = 16  # the source counts inked pixels in 4x4 cells: 0..16


def read() -> Parts:
    """Reads the digits, split into 60 % training, 20 % validation and 20 % test, stratified.

    Differs: the 17 grey levels are rounded to 0..255, as in any image file, so that a digit saved as PNG and read back
    is the same input. This differs from v / 16 by at most 1/510.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this set needs it

    source = load_digits()
    images = np.rint(source.images[:, None] * (255 / _LEVELS)).astype(np.uint8)
    rest, test = carve(Images(images, source.target.astype(np.int64)), 0.2)
    train, validation = carve(rest, 0.25)
    origins = ("scikit-learn's 1,797 digits", "cut from them", "cut from them")
    return Parts(tuple(str(name) for name in source.target_names), train, validation, test, (), origins)
