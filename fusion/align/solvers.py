"""Which entry of one axis goes with which of another: assignment, transport, rotation.

All take matrices over (source, reference) entries in float64. A coupling is a non-negative matrix of that shape whose
entries say how much of a source entry goes to a reference entry; `couple` turns it into what `remap` applies.

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

from wb.models.axes import Couple, Map, Select

Solver = Literal["lap", "emd", "sinkhorn"]
Matrix = NDArray[np.float64]
REGULARISATION = 0.08  # of Sinkhorn, on costs up to 1
SHOWN = 64  # entries of a plan on each side at most, where it is only looked at
_ITERATIONS = 1000


def couplings(cost: Matrix, solver: Solver = "lap", reg: float = REGULARISATION) -> Matrix:
    """The coupling of least `cost` (source, reference).

    `lap` is one to one; between unequal numbers the entries that are left over on the larger side go with their nearest.
    `emd` and `sinkhorn` transport uniform masses, `sinkhorn` with entropy `reg` on costs divided by their largest.

    Limits: Sinkhorn gives everything some of everything, so that even equal axes are blurred.
    """
    if solver == "lap":
        return assignment(cost)
    source, target = (np.full(n, 1 / n) for n in cost.shape)
    scaled = cost / (cost.max() or 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether it converged is looked at below
        if solver == "emd":
            return np.asarray(ot.emd(source, target, scaled, numItermax=10_000_000))
        plan = np.asarray(ot.sinkhorn(source, target, scaled, reg, numItermax=_ITERATIONS))
        if not np.isfinite(plan).all() or abs(plan.sum(axis=1) - source).max() > 0.01 / len(source):
            plan = np.asarray(ot.sinkhorn(source, target, scaled, reg, method="sinkhorn_log", numItermax=_ITERATIONS))
    return plan


def assignment(cost: Matrix) -> Matrix:
    """A coupling of ones: one to one, and each entry left over on the larger side with its nearest on the other."""
    rows, columns = linear_sum_assignment(cost)
    plan = np.zeros(cost.shape)
    plan[rows, columns] = 1
    left = np.setdiff1d(np.arange(cost.shape[1]), columns)
    plan[cost[:, left].argmin(axis=0), left] = 1
    left = np.setdiff1d(np.arange(cost.shape[0]), rows)
    plan[left, cost[left].argmin(axis=1)] = 1
    return plan


def couple(plan: Matrix, *, paired: bool = False) -> Map:
    """What a coupling (source, reference) does to an axis: averages what is written, shares out what is read.

    Where every source entry goes somewhere whole, the function stays: an entry that goes to k entries is written k times
    and read with one k-th. `paired` axes are written on both sides of a product instead of being read: √(1/k) each.

    Raises:
        ValueError: an entry of the reference that nothing goes to.
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
    """The map of an axis from products of its entries and their squared norms, and the plan as it is `shown`.

    As `couple(couplings(distances))`, without matrices of the size of the axis where it is one to one.
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
    """`plan` with at most `SHOWN` rows and columns, means over neighbours."""
    for axis in (0, 1):
        parts = np.array_split(plan, min(SHOWN, plan.shape[axis]), axis=axis)
        plan = np.concatenate([part.mean(axis=axis, keepdims=True) for part in parts], axis=axis)
    return plan


def _pooled(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Matrix:
    """`shown` of the permutation with ones at `rows` and `columns`."""
    n = len(rows)
    size = min(SHOWN, n)
    place = np.repeat(np.arange(size), [len(part) for part in np.array_split(np.arange(n), size)])
    picture = np.zeros((size, size))
    np.add.at(picture, (place[rows], place[columns]), 1)
    counts = np.bincount(place)
    return picture / np.outer(counts, counts)


def rotations(similarity: Tensor) -> Tensor:
    """Q (…, source, reference) with orthonormal columns or rows that makes tr(Qᵀ S) largest, S = `similarity`."""
    left, _, right = torch.linalg.svd(similarity.double(), full_matrices=False)
    turned: Tensor = left @ right
    return turned


def stream_rotation(similarity: Tensor) -> Couple:
    """The rotation of a residual stream, from `similarity` (source, reference), that its norms do not notice.

    It takes the vector of ones to itself and, between unequal widths, keeps the root mean square of a token.
    """
    source, reference = similarity.shape
    s = similarity.double()
    s = s - s.mean(dim=0, keepdim=True)
    s = s - s.mean(dim=1, keepdim=True)
    norm = float(torch.linalg.matrix_norm(s, 2))
    q = rotations(s + (norm or 1.0) / math.sqrt(source * reference))
    ratio = math.sqrt(reference / source)
    return Couple(ratio * q.T, q.T / ratio)
