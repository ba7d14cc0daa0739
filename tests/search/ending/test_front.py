from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binomtest

from wb.core.measures.metrics import METRICS, Metric, parse_budget
from wb.core.measures.readings import Reading
from wb.search.ending.front import front, ranked

ACC, LATENCY, SIZE = METRICS["acc"], METRICS["latency"], METRICS["size"]


def point(acc: float, latency: float, size: float = 1.0, half: float = 0.0, spread: float = 0.0) -> dict[str, Reading]:
    return {
        "acc": Reading(value=acc, unit="fraction", how="measured", interval=(acc - spread, acc + spread)),
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


def surely_better(a: Reading, b: Reading, metric: Metric) -> bool:
    return metric.cost(a) < metric.cost(b) and not a.overlaps(b)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("metrics", [(ACC, LATENCY), (ACC, LATENCY, SIZE)])
def test_what_a_front_keeps_and_leaves_out(seed: int, metrics: tuple[Metric, ...]) -> None:
    """Any two are told apart; none is left out but for one that is surely worse in nothing and at least as accurate, or alike."""
    rng = random.Random(seed)
    points = {
        i: point(rng.random(), rng.random(), rng.random(), half=0.1 * rng.random(), spread=0.1 * rng.random())
        for i in range(60)
    }

    def surely(a: int, b: int) -> bool:
        return any(surely_better(points[a][m.name], points[b][m.name], m) for m in metrics)

    found = ranked(points, metrics)
    kept = found.kept
    for a, b in permutations(kept, 2):
        assert surely(a, b) or surely(b, a), (a, b)
        assert surely(a, b) or points[a]["acc"].value > points[b]["acc"].value, (a, b)
    if len(metrics) == 2:  # three can go round in a circle
        for other in points.keys() - set(kept):
            assert any(
                not surely(other, k) and (points[k]["acc"].value >= points[other]["acc"].value or not surely(k, other))
                for k in kept
            ), f"{other} is left out for nothing"
    sure = [one for one in kept if one not in found.unsure]
    for a, b in permutations(sure, 2):
        assert surely(a, b), (a, b)
    for one, than in found.unsure.items():
        assert than in sure
        assert not surely(one, than)
    for one, others in found.alike.items():
        assert one in kept
        assert not [other for other in others if other in kept or surely(one, other) or surely(other, one)]


def test_a_slower_network_whose_accuracy_may_be_noise_stays_and_is_named() -> None:
    slower, faster = point(0.9638, 0.07, half=0.001, spread=0.019), point(0.9526, 0.04, half=0.001, spread=0.022)
    found = ranked({1: slower, 2: faster}, (ACC, LATENCY))
    assert (found.kept, found.unsure, found.alike) == ([2, 1], {1: 2}, {})
    found = ranked({1: slower, 2: point(0.9, 0.04, spread=0.02)}, (ACC, LATENCY))
    assert (found.kept, found.unsure) == ([2, 1], {})
    assert front({1: point(0.95, 0.07, spread=0.02), 2: faster}, (ACC, LATENCY)) == [2]


def test_small_steps_that_are_each_unsure_do_not_hide_a_large_one_that_is_sure() -> None:
    steps = {i: point(0.9 + 0.02 * i, 1.0 + i, half=0.1, spread=0.015) for i in range(5)}
    found = ranked(steps, (ACC, LATENCY))
    assert found.kept == [0, 1, 2, 3, 4]
    assert found.unsure == {1: 0, 3: 2}


def test_networks_that_nothing_tells_apart_are_one_point() -> None:
    some = {i: point(0.95 + 0.001 * i, 1 + 0.01 * i, half=0.05, spread=0.02) for i in range(4)}
    found = ranked(some, (ACC, LATENCY))
    assert (found.kept, found.alike, found.unsure) == ([3], {3: (2, 1, 0)}, {})


def test_the_same_images_tell_more_than_intervals() -> None:
    """Where one names nothing wrongly that the other names rightly, six images are enough (2 / 2**6 < 5 %), five are not."""
    a, b = point(0.95, 2.0, spread=0.03), point(0.94, 1.0, spread=0.03)
    better = np.ones(100, dtype=bool)
    for lost, unsure in ((5, {1: 2}), (6, {})):
        worse = better.copy()
        worse[:lost] = False
        found = ranked({1: a, 2: b}, (ACC, LATENCY), right={1: better, 2: worse})
        assert (found.kept, found.unsure) == ([2, 1], unsure)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_told_apart_by_the_exact_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((4, 200)) < np.array([[0.9], [0.85], [0.8], [0.7]])
    values = right.mean(axis=1)
    for i, j in permutations(range(4), 2):
        pair = {i: point(values[i], 2.0), j: point(values[j], 1.0)}
        only, other = int((right[i] & ~right[j]).sum()), int((~right[i] & right[j]).sum())
        sure = bool(only > other and binomtest(only, only + other).pvalue <= 0.05)
        found = ranked(pair, (ACC, LATENCY), right={i: right[i], j: right[j]})
        assert (i in found.kept) is (only > other)
        assert (i in found.kept and i not in found.unsure) is sure


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
