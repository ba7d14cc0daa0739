"""Who is promising: no one that fewer beat is left out for one that more beat, the best stays, and limits hold."""

from __future__ import annotations

import random

import pytest

from wb.core.measures.metrics import METRICS, parse_budget
from wb.core.measures.readings import Reading
from wb.search.fidelity.choice import promising

ACC, LATENCY = METRICS["acc"], METRICS["latency"]


def candidates(seed: int, count: int = 40) -> dict[int, dict[str, Reading]]:
    rng = random.Random(seed)
    return {
        i: {
            "acc": Reading(value=rng.random(), unit="fraction", how="measured"),
            "latency": Reading(value=rng.uniform(0.1, 2), unit="ms", how="measured"),
        }
        for i in range(count)
    }


def depth(found: dict[int, dict[str, Reading]]) -> dict[int, int]:
    """How many layers of non-dominated candidates lie before each."""
    values = {n: (-r["acc"].value, r["latency"].value) for n, r in found.items()}
    layers: dict[int, int] = {}
    while values:
        layer = [
            n for n, v in values.items() if not any(w != v and w[0] <= v[0] and w[1] <= v[1] for w in values.values())
        ]
        layers |= dict.fromkeys(layer, max(layers.values(), default=-1) + 1)
        values = {n: v for n, v in values.items() if n not in layer}
    return layers


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 3, 10, 25, 40, 60])
def test_layer_after_layer_is_taken(seed: int, count: int) -> None:
    found = candidates(seed)
    chosen, layers = promising(found, (ACC, LATENCY), (), count), depth(found)
    assert len(set(chosen)) == len(chosen) == min(count, len(found))
    worst = max(layers[n] for n in chosen)
    assert all(n in chosen for n, layer in layers.items() if layer < worst)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 4, 10])
def test_the_best_is_among_them(seed: int, count: int) -> None:
    found = candidates(seed)
    assert max(found, key=lambda n: found[n]["acc"].value) in promising(found, (ACC, LATENCY), (), count)


def test_the_fastest_goes_where_another_is_nearly_as_fast_and_much_better() -> None:
    def candidate(accuracy: float, latency: float) -> dict[str, Reading]:
        return {
            "acc": Reading(value=accuracy, unit="fraction", how="measured"),
            "latency": Reading(value=latency, unit="ms", how="measured"),
        }

    found = {0: candidate(0.4, 0.017), 1: candidate(0.6, 0.018), 2: candidate(0.75, 0.2)}
    assert promising(found, (ACC, LATENCY), (), 2) == [1, 2]
    found[1] = candidate(0.42, 0.1)
    assert promising(found, (ACC, LATENCY), (), 2) == [0, 2]


def test_only_those_within_the_limits_are_taken() -> None:
    found, limits = candidates(0), parse_budget(["latency=0.5ms"])
    chosen = promising(found, (ACC, LATENCY), limits, 40)
    assert set(chosen) == {n for n, r in found.items() if r["latency"].value <= 0.5}
    assert promising(found, (ACC, LATENCY), parse_budget(["latency=0.01ms"]), 5) == []
