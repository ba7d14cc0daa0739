"""Solvers that match the entries of two axes: assignment, optimal transport, rotation.

All take matrices (source, reference) in float64. A coupling (or plan) is a non-negative matrix of that shape; its elements are
the shares of a source entry that go to a reference entry. `couple` converts it to a map for `remap`.

Source: Singh and Jaggi, "Model Fusion via Optimal Transport", 2020 (transport); Ainsworth et al., "Git Re-Basin", 2023
(assignment); Schönemann, 1966 (rotation).
"""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import ot
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wb.fusion.settings import Solver
from wb.models.axes import Couple, CoupleWithin, Map, Select

Matrix = NDArray[np.float64]
Kind = Literal["rotation", "permutation", "paired"]  # of the map that an axis may get
REGULARISATION = 0.08  # of Sinkhorn, for costs up to 1
SHOWN = 64  # rows and columns of a plan for display, at most
_ITERATIONS = 1000


def couplings(cost: Matrix, solver: Solver = "lap", reg: float = REGULARISATION) -> Matrix:
    """The coupling with the least `cost` (source, reference).

    `lap` is one-to-one; if the numbers differ, leftover entries of the larger side go to their nearest. `emd` and `sinkhorn`
    transport uniform masses; `sinkhorn` regularises by entropy with `reg`, on costs divided by the largest.

    Limits: Sinkhorn couples every entry to every other a little, so even identical axes are blurred.
    """
    if solver == "lap":
        return assignment(cost)
    source, target = (np.full(n, 1 / n) for n in cost.shape)
    scaled = cost / (cost.max() or 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is checked below
        if solver == "emd":
            return np.asarray(ot.emd(source, target, scaled, numItermax=10_000_000))
        plan = np.asarray(ot.sinkhorn(source, target, scaled, reg, numItermax=_ITERATIONS))
        if not np.isfinite(plan).all() or abs(plan.sum(axis=1) - source).max() > 0.01 / len(source):
            plan = np.asarray(ot.sinkhorn(source, target, scaled, reg, method="sinkhorn_log", numItermax=_ITERATIONS))
    return plan


def assignment(cost: Matrix) -> Matrix:
    """The one-to-one coupling of least cost, of ones; leftover entries of the larger side go to their nearest."""
    rows, columns = linear_sum_assignment(cost)
    plan = np.zeros(cost.shape)
    plan[rows, columns] = 1
    left = np.setdiff1d(np.arange(cost.shape[1]), columns)
    plan[cost[:, left].argmin(axis=0), left] = 1
    left = np.setdiff1d(np.arange(cost.shape[0]), rows)
    plan[left, cost[left].argmin(axis=1)] = 1
    return plan


def couple(plan: Matrix, *, paired: bool = False) -> Map:
    """The map of a coupling (source, reference): it averages the weights that write an entry and divides those that read it.

    If every source entry is coupled to reference entries of its own, the function is preserved: an entry that goes to k
    entries is written k times, and read with the factor 1/k. `paired` axes are written on both sides of a product instead of
    being read; both factors are √(1/k).

    Raises:
        ValueError: an entry of the reference is coupled to no source entry.
    """
    if (plan.sum(axis=0) <= 0).any():
        raise ValueError("an entry of the reference has no source")
    if plan.shape[0] == plan.shape[1] and ((plan > 0).sum(axis=0) == 1).all() and ((plan > 0).sum(axis=1) == 1).all():
        return Select(torch.from_numpy(plan.argmax(axis=0)))
    write = (plan / plan.sum(axis=0)).T
    shares = plan.sum(axis=1, keepdims=True)
    read = np.divide(plan, shares, out=np.zeros_like(plan), where=shares > 0).T
    if paired:
        write = np.sqrt(write * read)
    return Couple(torch.from_numpy(np.ascontiguousarray(write)), torch.from_numpy(np.ascontiguousarray(read)))


def matched(
    similarity: Tensor, own: Matrix, other: Matrix, solver: Solver, reg: float, *, paired: bool
) -> tuple[Map, Matrix]:
    """The map of an axis and its plan for display, from inner products of entries and their squared norms.

    Equals `couple(couplings(distances))`, but needs no further matrices of the size of the axis for one-to-one assignments.
    """
    if solver == "lap" and similarity.shape[0] == similarity.shape[1]:
        rows, columns = linear_sum_assignment(similarity.to(torch.float64, copy=True).neg_().numpy())
        index = np.empty_like(rows)
        index[columns] = rows
        return Select(torch.from_numpy(index)), _pooled(rows, columns)
    products = similarity.double().numpy()
    plan = couplings((own[:, None] + other[None, :] - 2 * products).clip(min=0), solver, reg)
    return couple(plan, paired=paired), shown(plan)


def shown(plan: Matrix) -> Matrix:
    """`plan` for display: shrunk to at most `SHOWN` rows and columns by averaging neighbours."""
    for axis in (0, 1):
        parts = np.array_split(plan, min(SHOWN, plan.shape[axis]), axis=axis)
        plan = np.concatenate([part.mean(axis=axis, keepdims=True) for part in parts], axis=axis)
    return plan


def _pooled(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Matrix:
    """`shown` of the permutation matrix with ones at (`rows`, `columns`), without building that matrix."""
    n = len(rows)
    size = min(SHOWN, n)
    place = np.repeat(np.arange(size), [len(part) for part in np.array_split(np.arange(n), size)])
    picture = np.zeros((size, size))
    np.add.at(picture, (place[rows], place[columns]), 1)
    counts = np.bincount(place)
    return picture / np.outer(counts, counts)


def rotations(similarity: Tensor) -> Tensor:
    """Orthogonal Procrustes: Q (…, source, reference), with orthonormal columns or rows, that maximises tr(Qᵀ `similarity`)."""
    left, _, right = torch.linalg.svd(similarity.double(), full_matrices=False)
    turned: Tensor = left @ right
    return turned


def stream_rotation(similarity: Tensor, *, centred: bool) -> Couple:
    """The best rotation of a residual stream, from `similarity` (source, reference), that commutes with its norms.

    Between unequal widths it preserves the root mean square of a token. Where norms take the mean away (`centred`), it maps
    the vector of ones to itself.
    """
    source, reference = similarity.shape
    s = similarity.double()
    if centred:
        s = s - s.mean(dim=0, keepdim=True)
        s = s - s.mean(dim=1, keepdim=True)
        norm = float(torch.linalg.matrix_norm(s, 2))
        s = s + (norm or 1.0) / math.sqrt(source * reference)
    q = rotations(s)
    ratio = math.sqrt(reference / source)
    return Couple(ratio * q.T, q.T / ratio)


def within_heads(compared: Tensor, kind: Kind, axis: str, gauge: Tensor | None = None) -> tuple[Map, Matrix]:
    """The map of the channels within each head, and its plan for display.

    `compared` (heads, source, reference) holds inner products for rotations, else distances. `gauge` (heads,) is a factor per
    head that multiplies the writers and divides the readers.
    """
    if kind == "rotation":
        q = rotations(compared)
        factor = torch.ones(()) if gauge is None else gauge[:, None, None]
        return CoupleWithin(q.mT * factor, q.mT / factor, axis), q.flatten(0, 1).numpy()
    plans = [couplings(head, "lap") for head in compared.double().numpy()]
    maps = [matrices(couple(plan, paired=kind == "paired"), plan.shape) for plan in plans]
    write, read = (torch.stack([pair[i] for pair in maps]) for i in range(2))
    return CoupleWithin(write, read, axis), np.concatenate(plans)


def matrices(map_: Map, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What a map multiplies writers and readers by, each (reference, source); `shape` is (source, reference)."""
    if isinstance(map_, Select):
        eye = torch.eye(shape[0], dtype=torch.float64)[map_.index]
        return eye, eye
    if not isinstance(map_, Couple):
        raise TypeError(f"{type(map_).__name__} has no matrices")
    return map_.write, map_.read
