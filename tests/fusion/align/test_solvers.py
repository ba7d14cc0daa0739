"""Couplings against brute force, maps by what they keep."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from wb.fusion.align.solvers import Matrix, assignment, couple, couplings, rotations, stream_rotation
from wb.models.axes import Couple, Select


@st.composite
def costs(draw: st.DrawFn) -> Matrix:
    """Up to 4 by 5, of few values too, so that there are ties."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    values = st.sampled_from([0.0, 1.0, 2.0]) if draw(st.booleans()) else st.floats(0, 10)
    size = math.prod(shape)
    return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)


@st.composite
def surjections(draw: st.DrawFn) -> Matrix:
    """(source, reference): every entry of the source goes to one of the reference or to more, each of these comes from one."""
    source = draw(st.integers(1, 4))
    more = draw(st.lists(st.integers(0, source - 1), max_size=4))
    origins = draw(st.permutations([*range(source), *more]))
    plan = np.zeros((source, len(origins)))
    plan[origins, np.arange(len(origins))] = draw(st.floats(0.1, 2))
    return plan


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(plan: Matrix, *, paired: bool = False) -> tuple[Tensor, Tensor]:
    """The matrices of a map."""
    map_ = couple(plan, paired=paired)
    if isinstance(map_, Select):
        matrix = torch.eye(len(plan), dtype=torch.float64)[map_.index]
        return matrix, matrix
    assert isinstance(map_, Couple)
    return map_.write, map_.read


@settings(deadline=None)
@given(costs())
def test_an_assignment_is_the_best_of_all(cost: Matrix) -> None:
    """One to one for the smaller side, and what is left over with its nearest."""
    cost = cost if cost.shape[0] <= cost.shape[1] else cost.T
    n, m = cost.shape
    best = min(cost[range(n), chosen].sum() for chosen in itertools.permutations(range(m), n))
    for plan in (assignment(cost), assignment(cost.T).T):
        assert set(np.unique(plan)) <= {0, 1}
        assert (plan.sum(axis=0) == 1).all()
        assert (plan.sum(axis=1) >= 1).all()
        left = (cost * plan).sum(axis=0) > cost.min(axis=0)
        assert left.sum() <= n, "only those that are assigned may be far from their nearest"
        nearest = np.sort(cost.min(axis=0) - (cost * plan).sum(axis=0))
        assert (nearest[n:] == 0).all()
        chosen = min(
            cost[rows, columns].sum()
            for columns in itertools.combinations(range(m), n)
            for rows in [plan[:, columns].argmax(axis=0)]
            if len(set(rows)) == n
        )
        assert chosen == pytest.approx(best)


@settings(deadline=None)
@given(costs())
def test_emd_is_the_cheapest_transport(cost: Matrix) -> None:
    """Against a linear programme."""
    n, m = cost.shape
    plan = couplings(cost, "emd")
    np.testing.assert_allclose(plan.sum(axis=1), 1 / n)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / m)
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    best = linprog(cost.flatten(), A_eq=sums, b_eq=[1 / n] * n + [1 / m] * m)
    assert (plan * cost).sum() == pytest.approx(best.fun, abs=1e-9)


@settings(deadline=None)
@given(costs(), st.floats(0.05, 1))
def test_sinkhorn_is_stationary(cost: Matrix, reg: float) -> None:
    """Uniform masses, and log plan + cost / reg is a number for each row plus one for each column."""
    n, m = cost.shape
    plan = couplings(cost, "sinkhorn", reg)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / n, rtol=0.02)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / m, rtol=0.02)
    dual = np.log(plan) + cost / (cost.max() or 1) / reg
    centred = dual - dual.mean(axis=0) - dual.mean(axis=1, keepdims=True) + dual.mean()
    np.testing.assert_allclose(centred, 0, atol=1e-6)


def test_sinkhorn_survives_a_small_regularisation_and_blurs_even_equal_axes() -> None:
    cost = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    sharp = couplings(cost, "sinkhorn", 1e-3)
    assert np.isfinite(sharp).all()
    np.testing.assert_allclose(sharp, np.eye(6) / 6, atol=1e-3)
    assert couplings(cost, "sinkhorn").diagonal().max() < 0.95 / 6


@settings(deadline=None)
@given(surjections(), st.integers(0, 99))
def test_what_goes_somewhere_whole_keeps_the_function(plan: Matrix, seed: int) -> None:
    """Of a hidden layer, and of a product of queries and keys."""
    source = len(plan)
    up, down, x = normal(seed, source, 3), normal(seed + 1, 2, source), normal(seed + 2, 5, 3)
    write, read = pair(plan)
    torch.testing.assert_close((x @ up.T @ write.T).relu() @ (down @ read.T).T, (x @ up.T).relu() @ down.T)
    write, _ = pair(plan, paired=True)
    q, k = (x @ up.T).relu(), (x @ normal(seed + 3, source, 3).T).relu()
    torch.testing.assert_close((q @ write.T) @ (k @ write.T).T, q @ k.T)


@settings(deadline=None)
@given(costs(), st.sampled_from(["lap", "emd", "sinkhorn"]))
def test_what_is_written_is_averaged_and_what_is_read_is_shared_out(cost: Matrix, solver: str) -> None:
    write, read = pair(couplings(cost, solver))  # type: ignore[arg-type]
    torch.testing.assert_close(write.sum(dim=1), torch.ones(cost.shape[1]).double())
    torch.testing.assert_close(read.sum(dim=0), torch.ones(cost.shape[0]).double())
    assert float(min(write.min(), read.min())) >= 0


def test_a_permutation_is_an_index() -> None:
    order = [2, 0, 3, 1]
    map_ = couple(np.eye(4)[:, order] / 4)
    assert isinstance(map_, Select)
    assert map_.index.tolist() == order


def test_an_entry_without_a_source_is_refused_and_one_that_goes_nowhere_is_not_read() -> None:
    plan = np.array([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="an entry of the reference has no source"):
        couple(plan)
    _, read = pair(plan[:, :1])
    assert read.tolist() == [[1, 0]]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (2, 4, 4), (1, 1)])
def test_a_rotation_reaches_the_nuclear_norm_and_no_other_more(shape: tuple[int, ...]) -> None:
    similarity = normal(0, *shape)
    q = rotations(similarity)
    inner = min(shape[-2:])
    gram = q.mT @ q if shape[-1] == inner else q @ q.mT
    torch.testing.assert_close(gram, torch.eye(inner).double().expand_as(gram))
    reached = (q * similarity).sum(dim=(-2, -1))
    torch.testing.assert_close(reached, torch.linalg.svdvals(similarity).sum(dim=-1))
    for seed in range(1, 50):
        other = rotations(normal(seed, *shape))
        assert ((other * similarity).sum(dim=(-2, -1)) <= reached + 1e-12).all()


@settings(max_examples=50, deadline=None)
@given(
    source=st.integers(1, 7),
    reference=st.integers(1, 7),
    seed=st.integers(0, 99),
    flat=st.booleans(),
    centred=st.booleans(),
)
def test_a_stream_keeps_its_size_and_the_ones(
    source: int, reference: int, seed: int, flat: bool, centred: bool
) -> None:
    """Where there is room, nothing is lost: what reads the stream reads the same, and its norm sees the same."""
    turn = stream_rotation((0 if flat else 1) * normal(seed, source, reference), centred=centred)
    if centred:
        ones = [torch.ones(n, dtype=torch.float64) for n in (source, reference)]
        torch.testing.assert_close(turn.write @ ones[0], ones[1])
    if reference < source:
        return
    x, weight = normal(seed + 1, 5, source), normal(seed + 2, 3, source)
    moved = x @ turn.write.T
    torch.testing.assert_close(moved.square().mean(dim=1), x.square().mean(dim=1))
    if centred:
        torch.testing.assert_close(moved.mean(dim=1), x.mean(dim=1))
    torch.testing.assert_close(moved @ (weight @ turn.read.T).T, x @ weight.T)
    if source == reference:
        torch.testing.assert_close(turn.write, turn.read)
        torch.testing.assert_close(turn.write @ turn.write.T, torch.eye(source).double())


@pytest.mark.parametrize("centred", [True, False])
def test_a_rotated_stream_is_found_and_no_such_rotation_is_better(centred: bool) -> None:
    truth = stream_rotation(normal(0, 6, 6), centred=centred).write
    x = normal(1, 40, 6)
    similarity = x.T @ (x @ truth.T)
    found = stream_rotation(similarity, centred=centred)
    torch.testing.assert_close(found.write, truth)
    strangers = normal(2, 6, 6)
    best = float((stream_rotation(strangers, centred=centred).read.T * strangers).sum())
    others = (stream_rotation(normal(s, 6, 6), centred=centred) for s in range(3, 60))
    assert all(float((other.read.T * strangers).sum()) <= best for other in others)
