"""Images that come more than once: equal in every pixel, or nearly so."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from wb.data.dataset import Split, moments

NEAR = 0.02  # root mean square of the difference, in units of the range of values: five levels of 8 bits
_CELLS = 4  # a side of the grid of means that finds candidates
_NUMBERS = 1 << 22  # of floats in memory at once
_QUERIES = 256  # images that candidates are looked up for at once
FIRST = 32  # candidates that are compared in any case
MOST = 1 << 34  # pixels that are compared beyond them, a minute's work

Indices = npt.NDArray[np.intp]
Settled = Callable[[int], None]  # receives how many images are settled


def digests(split: Split) -> list[bytes]:
    """16 bytes for each example that are equal for equal pixels or texts, and differ for others (BLAKE2b)."""
    return [hashlib.blake2b(content, digest_size=16).digest() for content in split.contents()]


def repeated(own: Sequence[bytes]) -> Indices:
    """The images, by index, that are equal to an earlier one."""
    seen: set[bytes] = set()
    found = []
    for i, one in enumerate(own):
        if one in seen:
            found.append(i)
        seen.add(one)
    return np.array(found, np.intp)


class Near(NamedTuple):
    """Whether each image has another nearby (n,), and how many of the others were compared with the `FIRST` most alike only."""

    found: npt.NDArray[np.bool_]
    unsettled: int


def near(split: Split, among: Split, progress: Settled = lambda done: None) -> Near:
    """Whether each image of `split` differs by at most `NEAR` from some image of `among`.

    The means over the cells of a grid differ, on the whole, by no more than the pixels do, so that candidates are the images
    whose means lie within `NEAR`; those are compared pixel by pixel, the most alike first. Nothing is missed unless there are
    candidates beyond the `FIRST` for which more than `MOST` pixels were to be compared, as among images of little contrast.
    Texts are near none.
    """
    if among.vocabulary is not None:
        return Near(np.zeros(len(split), bool), 0)
    size, count = math.prod(among.images.shape[1:]), min(FIRST, len(among))
    own, other = _means(split, span := _span(among)), _means(among, span)
    tree, reach = cKDTree(other), NEAR * (1 + 1e-6)  # the pixels decide
    found = np.zeros(len(split), bool)
    more: list[int] = []  # with candidates beyond the first
    for start in range(0, len(split), _QUERIES):
        progress(start - len(more))
        distances, indices = map(
            np.asarray, tree.query(own[start : start + _QUERIES], range(1, count + 1), distance_upper_bound=reach)
        )
        for i, (near_enough, first) in enumerate(zip(np.isfinite(distances), indices, strict=True), start):
            found[i] = _any_near(split, i, among, first[near_enough], span)
            if near_enough.all() and not found[i] and count < len(among):
                more.append(i)
    left = MOST // size
    for j, i in enumerate(more):
        progress(len(split) - len(more) + j)
        candidates = np.asarray(tree.query_ball_point(own[i], reach), np.intp)
        left -= len(candidates)
        if left < 0:
            return Near(found, len(more) - j)
        found[i] = _any_near(split, i, among, candidates, span)
    return Near(found, 0)


def _any_near(split: Split, i: int, among: Split, candidates: Indices, span: float) -> bool:
    own = split.pixels(slice(i, i + 1))
    size = _at_once(split)
    for start in range(0, len(candidates), size):
        others = among.pixels(candidates[start : start + size])
        if (np.square(others - own).mean(axis=(1, 2, 3)) <= (NEAR * span) ** 2).any():
            return True
    return False


def _span(split: Split) -> float:
    """The range of values: 1 of images, and of features, which may have any, four deviations."""
    return 4 * max(moments(split)[1]) or 1.0 if split.features else 1.0


def _means(split: Split, span: float) -> npt.NDArray[np.float64]:
    """The mean of each cell of a grid over each image, times the root of the cell's share of the pixels, in spans: (n, cells).

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
    return found.reshape(len(split), -1) / span


def _at_once(split: Split) -> int:
    """How many images are held as floats at once."""
    return max(1, _NUMBERS // max(1, math.prod(split.images.shape[1:])))
