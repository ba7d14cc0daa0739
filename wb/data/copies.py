"""Images that come more than once: equal in every pixel, or nearly so."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from wb.data.dataset import Split

NEAR = 0.02  # root mean square of the difference, in units of the range of values: five levels of 8 bits
_CELLS = 4  # a side of the grid of means that finds candidates
_NUMBERS = 1 << 22  # of floats in memory at once

Indices = npt.NDArray[np.intp]


def digests(split: Split) -> list[bytes]:
    """16 bytes for each image that are equal for equal pixels, and differ for others (BLAKE2b)."""
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in split.images]


def repeated(own: Sequence[bytes]) -> Indices:
    """The images, by index, that are equal to an earlier one."""
    seen: set[bytes] = set()
    found = []
    for i, one in enumerate(own):
        if one in seen:
            found.append(i)
        seen.add(one)
    return np.array(found, np.intp)


def near(split: Split, among: Split) -> npt.NDArray[np.bool_]:
    """Whether each image of `split` differs by at most `NEAR` from some image of `among`: (n,).

    Nothing is missed: the means over the cells of a grid differ, on the whole, by no more than the pixels do, so that candidates
    are the images whose means lie within `NEAR`; those are compared pixel by pixel.
    """
    tree, means = cKDTree(_means(among)), _means(split)
    found = np.zeros(len(split), bool)
    for i, mean in enumerate(means):
        found[i] = _any_near(split, i, among, np.asarray(tree.query_ball_point(mean, NEAR), np.intp))
    return found


def _any_near(split: Split, i: int, among: Split, candidates: Indices) -> bool:
    own = split.pixels(slice(i, i + 1))
    size = _at_once(split)
    for start in range(0, len(candidates), size):
        others = among.pixels(candidates[start : start + size])
        if (np.square(others - own).mean(axis=(1, 2, 3)) <= NEAR**2).any():
            return True
    return False


def _means(split: Split) -> npt.NDArray[np.float64]:
    """The mean of each cell of a grid over each image, times the root of the cell's share of the pixels: (n, cells).

    By Jensen's inequality the distance of two rows is at most the root mean square of the difference of the two images.
    """
    _, channels, height, width = split.images.shape
    rows, columns = (np.linspace(0, side, min(_CELLS, side) + 1).round().astype(int) for side in (height, width))
    found = np.empty((len(split), channels, len(rows) - 1, len(columns) - 1))
    size = _at_once(split)
    for start in range(0, len(split), size):
        pixels = split.pixels(slice(start, start + size)).astype(np.float64)
        for r, (top, bottom) in enumerate(pairwise(rows.tolist())):
            for c, (left, right) in enumerate(pairwise(columns.tolist())):
                cell = pixels[:, :, top:bottom, left:right]
                share = math.sqrt((bottom - top) * (right - left) / (channels * height * width))
                found[start : start + len(pixels), :, r, c] = cell.mean(axis=(2, 3)) * share
    return found.reshape(len(split), -1)


def _at_once(split: Split) -> int:
    """How many images are held as floats at once."""
    return max(1, _NUMBERS // max(1, math.prod(split.images.shape[1:])))
