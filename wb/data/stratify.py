"""Stratified selection: chooses part of a labelled set so that every class keeps its share.

The choice depends only on the labels. So the split is a property of the data set, and runs with different training seeds are
compared on the same images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wb.data.dataset import Labels, Split

SPLIT_SEED = 20240229  # must never change, or results on a data set would no longer be comparable


def carve(split: Split, share: float, *, most: int | None = None) -> tuple[Split, Split]:
    """`split` in two stratified parts: the rest, and a part of about `share` of it, at most `most` images.

    Both keep the order of `split`. A class of two or more images has at least one in each part; a class of one image stays in
    the rest. With very many tiny classes the part therefore grows beyond `share` and `most`.
    """
    total = round(len(split) * share)
    chosen = choose(split.labels, total if most is None else min(total, most), leave=1)
    rest = np.ones(len(split), dtype=bool)
    rest[chosen] = False
    return split.take(np.flatnonzero(rest)), split.take(chosen)


def choose(labels: Labels, total: int, *, leave: int = 0) -> npt.NDArray[np.intp]:
    """Sorted indices of about `total` labels, stratified; at least `leave` of each class are not chosen."""
    # RandomState and not default_rng: numpy promises that this stream never changes.
    random = np.random.RandomState(SPLIT_SEED)
    names, counts = np.unique(labels, return_counts=True)
    chosen = [
        random.permutation(np.flatnonzero(labels == name))[:quota]
        for name, quota in zip(names, _quotas(counts, total, leave), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _quotas(counts: npt.NDArray[np.intp], total: int, leave: int) -> npt.NDArray[np.intp]:
    """The number to choose of each class: largest remainders round up, and every class with enough images gets at least one."""
    exact = counts * (total / counts.sum())
    highest = np.maximum(counts - leave, 0)
    quotas: npt.NDArray[np.intp] = np.clip(np.floor(exact).astype(np.intp), np.minimum(1, highest), highest)
    for i in np.argsort(quotas - exact, kind="stable"):
        if quotas.sum() >= total:
            break
        quotas[i] += quotas[i] < highest[i]
    return quotas
