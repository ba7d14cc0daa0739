"""Hypervolume against counting unit cells, and the curve against the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wb.core.errors import BadOption
from wb.search.sampler.hypervolume import hypervolume, hypervolume_curve, nondominated, reference_point


def cells(points: np.ndarray, side: int) -> int:
    """The oracle: unit cells of a grid up to `side` that at least one point with whole coordinates dominates."""
    corners = itertools.product(range(side), repeat=points.shape[1])
    return sum(any((point <= corner).all() for point in points) for corner in corners)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_counts_dominated_cells(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    for _ in range(8):
        points = rng.integers(0, 8, (6, objectives))  # some lie beyond the reference, and some are dominated
        assert hypervolume(points, [6] * objectives) == cells(points, 6)


def test_the_curve_is_the_hypervolume_of_every_beginning() -> None:
    points = np.random.default_rng(0).random((40, 3))
    curve = hypervolume_curve(points, [0.9] * 3)
    assert curve == pytest.approx([hypervolume(points[: n + 1], [0.9] * 3) for n in range(40)])
    assert (np.diff(curve) >= 0).all()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_nondominated_agrees_with_the_definition(objectives: int) -> None:
    points = np.random.default_rng(1).integers(0, 6, (30, objectives)).astype(float)
    front = {tuple(p) for p in points if not any((q <= p).all() and (q < p).any() for q in points)}
    found = nondominated(points)
    assert {tuple(point) for point in found} == front
    assert len(found) == len(front)


def test_every_point_of_a_front_adds_volume_up_to_its_reference_point() -> None:
    front = np.array([[1.0, 200.0], [2.0, 150.0], [4.0, 100.0]])
    reference = reference_point(np.vstack([front, [[50.0, 900.0]]]))
    assert reference == pytest.approx([4.3, 210.0])
    whole = hypervolume(front, reference)
    assert all(hypervolume(np.delete(front, i, axis=0), reference) < whole for i in range(3))


def test_the_reference_of_a_single_point_is_worse_than_it() -> None:
    assert reference_point([[2.0, -5.0, 0.0]]) == pytest.approx([2.2, -4.5, 0.1])


def test_nothing_has_no_volume() -> None:
    assert hypervolume([], [1.0, 1.0]) == 0.0
    assert hypervolume_curve([], [1.0, 1.0]).tolist() == []


def test_nonsense_is_refused() -> None:
    with pytest.raises(BadOption, match="one per objective"):
        hypervolume([[1.0, 2.0]], [3.0])
    with pytest.raises(BadOption, match="missing values"):
        hypervolume([[1.0, float("nan")]], [3.0, 3.0])
    with pytest.raises(BadOption, match="rows of objectives"):
        nondominated([1.0, 2.0])
    with pytest.raises(BadOption, match="at least one"):
        reference_point([])
