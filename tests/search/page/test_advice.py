"""The knee is where its rule says, and every piece of advice names a network that has what is wanted."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from wb.core.measures.metrics import METRICS, parse_budget, parse_objectives
from wb.core.measures.readings import Reading
from wb.core.statistics.paired import Paired
from wb.search.page.advice import advice, knee, most_accurate
from wb.search.results.point import FrontPoint
from wb.search.results.unsure import Unsure
from wb.search.run import Run

LATENCY = METRICS["latency"]
Fabricate = Callable[..., Run]


@pytest.fixture(scope="module")
def one(originals: Callable[..., object]) -> FrontPoint:
    return Run(originals(trials=20)).read_front()[0]  # type: ignore[arg-type]


def made(one: FrontPoint, number: int, acc: float, latency: float, than: int | None = None) -> FrontPoint:
    values = {
        **one.values,
        "acc": Reading(value=acc, unit="fraction", how="measured"),
        "latency": Reading(value=latency, unit="ms", how="measured"),
    }
    unsure = None if than is None else Unsure(than=than, paired=Paired(won=2, lost=1, n=100))
    return one.model_copy(update={"id": number, "values": values, "unsure": unsure})


def drawn(one: FrontPoint, seed: int) -> list[FrontPoint]:
    """A front: the slower, the more accurate."""
    rng = random.Random(seed)
    n = rng.randrange(1, 9)
    pairs = zip(sorted(rng.random() for _ in range(n)), sorted(10 ** rng.uniform(-2, 1) for _ in range(n)), strict=True)
    return [made(one, i, acc, latency) for i, (acc, latency) in enumerate(pairs)]


@pytest.mark.parametrize("seed", range(30))
def test_no_network_is_further_above_the_line_than_the_knee(one: FrontPoint, seed: int) -> None:
    points = drawn(one, seed)

    def above(point: FrontPoint) -> float:
        """How far the accuracy is above the line through the ends at the point's latency, by its equation."""
        (x0, y0), (x1, y1) = (
            (math.log(p.values["latency"].value), p.validation.value) for p in (points[0], points[-1])
        )
        line = y0 + (y1 - y0) * (math.log(point.values["latency"].value) - x0) / (x1 - x0) if x1 > x0 else y1
        return point.validation.value - line

    found = knee(points, LATENCY)
    assert all(above(found) >= above(point) - 1e-9 for point in points)
    random.Random(seed).shuffle(points)
    assert knee(points, LATENCY) == found
    scaled = [made(one, p.id, p.validation.value, 1000 * p.values["latency"].value) for p in points]
    assert knee(scaled, LATENCY).id == found.id  # whatever the unit


def test_of_two_the_better_is_taken_and_what_may_be_noise_does_not_count(one: FrontPoint) -> None:
    first, second = made(one, 1, 0.9, 1.0), made(one, 2, 0.99, 2.0)
    assert knee([first, second], LATENCY) == second
    assert knee([first, made(one, 2, 0.99, 1.01, than=1)], LATENCY) == first
    assert knee([first], LATENCY) == first


def test_every_wish_is_met(one: FrontPoint) -> None:
    points = [
        made(one, 1, 0.8, 0.03),
        made(one, 2, 0.9, 0.15),
        made(one, 3, 0.95, 0.9),
        made(one, 4, 0.96, 1.5, than=3),
    ]
    metrics = parse_objectives("acc,latency")
    limits = parse_budget(["latency=2ms", "acc=0.85"])
    found = {each.wish: each.point.id for each in advice(points, metrics, limits)}
    assert found["the best accuracy"] == 4
    assert found["the same accuracy as far as noise tells, for less"] == 3
    assert found["the least latency"] == 1
    assert found["the least latency with acc >= 85.00 %"] == 2
    assert found["the best accuracy with latency <= 2 ms"] == 4
    assert found["the best accuracy with latency <= 1 ms"] == 3
    assert found["the best accuracy with latency <= 0.2 ms"] == 2
    assert most_accurate(points).id == 4
    for each in advice(points, metrics, limits):
        assert all(
            limit.excess(each.point.values[limit.metric.name]) <= 0 for limit in limits if limit.text() in each.wish
        )


@pytest.mark.parametrize("objectives", ["acc", "latency", "size,latency", "acc,size,latency"])
def test_any_objectives_give_advice(one: FrontPoint, objectives: str) -> None:
    points = drawn(one, 1)
    assert advice(points, parse_objectives(objectives), ())
    assert advice([], parse_objectives(objectives), ()) == []
