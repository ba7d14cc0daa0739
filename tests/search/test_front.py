from __future__ import annotations

import random

import pytest

from wb.core.metrics import METRICS, parse_budget
from wb.core.readings import Reading
from wb.search.front import front

ACC, LATENCY, SIZE = METRICS["acc"], METRICS["latency"], METRICS["size"]


def point(acc: float, latency: float, size: float = 1.0, half: float = 0.0) -> dict[str, Reading]:
    return {
        "acc": Reading(value=acc, unit="fraction", how="measured"),
        "latency": Reading(value=latency, unit="ms", how="measured", interval=(latency - half, latency + half)),
        "size": Reading(value=size, unit="B", how="counted"),
    }


def brute(points: dict[int, dict[str, Reading]]) -> set[int]:
    """Non-dominated by definition, for exact values."""
    values = {k: (-p["acc"].value, p["latency"].value, p["size"].value) for k, p in points.items()}
    return {
        k
        for k, v in values.items()
        if not any(all(a <= b for a, b in zip(w, v, strict=True)) and w != v for w in values.values())
    }


@pytest.mark.parametrize("seed", range(5))
def test_without_noise_it_is_the_pareto_front(seed: int) -> None:
    rng = random.Random(seed)
    points = {i: point(rng.random(), rng.random(), rng.random()) for i in range(60)}
    assert set(front(points, (ACC, LATENCY, SIZE))) == brute(points)


@pytest.mark.parametrize("seed", range(10))
def test_no_two_points_differ_by_noise_only(seed: int) -> None:
    rng = random.Random(seed)
    points = {i: point(round(rng.random(), 1), rng.random(), half=0.1 * rng.random()) for i in range(80)}
    kept = front(points, (ACC, LATENCY))
    assert kept
    for a in kept:
        for b in kept:
            if a != b and points[a]["latency"].overlaps(points[b]["latency"]):
                pytest.fail(f"{a} and {b} cannot be told apart in latency, so the more accurate one is enough")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_left_out_is_covered(seed: int) -> None:
    """Every candidate has one in the front that is at least as accurate, and not slower as far as one can tell."""
    rng = random.Random(seed)
    points = {i: point(round(rng.random(), 1), rng.random(), half=0.02) for i in range(50)}
    kept = front(points, (ACC, LATENCY))
    for p in points.values():
        assert any(
            points[k]["acc"].value >= p["acc"].value
            and (
                points[k]["latency"].value <= p["latency"].value
                or points[k]["latency"].value - p["latency"].value <= 0.09
            )
            for k in kept
        )


def test_of_equals_one_stays() -> None:
    assert front({1: point(0.9, 1.0), 2: point(0.9, 1.0)}, (ACC, LATENCY)) in ([1], [2])
    assert front({1: point(0.9, 1.02, half=0.05), 2: point(0.9, 1.0, half=0.05)}, (ACC, LATENCY)) == [2]


def test_limits_are_hard() -> None:
    points = {1: point(0.99, 3.0), 2: point(0.9, 1.0), 3: point(0.95, 1.9, half=0.2)}
    assert front(points, (ACC, LATENCY), parse_budget(["latency=2ms"])) == [2, 3]
    assert front(points, (ACC, LATENCY), parse_budget(["latency=0.5ms"])) == []
    assert front(points, (ACC, LATENCY), parse_budget(["acc=98%"])) == [1]


def test_one_objective_has_one_best() -> None:
    assert front({1: point(0.9, 1.0), 2: point(0.95, 5.0), 3: point(0.94, 0.1)}, (ACC,)) == [2]
