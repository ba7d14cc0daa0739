"""What a search does otherwise on passages, whose quality is a cost: less is better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.catalogue import DECODERS
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.statistics.verdict import loss
from wb.data import load
from wb.models.counting import count_macs, operations
from wb.search.ending.front import ranked
from wb.search.fidelity.yardstick import held_back, ranking, told, warning
from wb.training.optimizer import Optimizer
from wb.training.recipes.recipe import Recipe
from wb.training.recipes.schedule import Rates, pieces


def reading(value: float, unit: str = "ppl") -> Reading:
    return Reading(value=value, unit=unit, how="measured", interval=(0.8 * value, 1.2 * value), n=50)


def test_networks_are_told_apart_by_what_they_cost_on_the_same_passages() -> None:
    """Far inside the intervals, which are those of texts that differ, one is always a little better than the other."""
    random = np.random.default_rng(0)
    hard = random.normal(1.5, 0.5, 50)
    nats = {"slow": hard, "fast": hard + random.normal(0.05, 0.02, 50), "same": hard + random.normal(0, 0.1, 50)}
    times = {"slow": 2.0, "fast": 1.0, "same": 2.0}
    found = ranked(
        {n: {"ppl": reading(float(np.exp(nats[n].mean()))), "latency@token": reading(times[n], "ms")} for n in nats},
        (METRICS["ppl"], METRICS["latency@token"]),
        right=nats,
    )
    assert set(found.kept) in ({"slow", "fast"}, {"same", "fast"})
    assert not found.unsure


def test_a_perplexity_that_rises_is_worse() -> None:
    assert loss("fine-tuning", reading(5.0), reading(4.0)) is None
    remark = loss("fine-tuning", reading(4.0), reading(4.5))
    assert remark is not None
    assert remark.text.endswith("4 ppl before, 4.5 ppl after (less than its 95 % interval).")
    assert not remark.warn


def test_no_passage_is_held_back_and_a_part_is_the_beginning() -> None:
    data = load("lm,length=32")
    assert held_back(data) == 0
    part = ranking(data, 0, 0.25)
    assert len(part.train) == round(0.25 * len(data.train))
    np.testing.assert_array_equal(part.train.inputs(slice(0, 3)), data.train.inputs(slice(0, 3)))
    assert "points" not in told(100, noun="passages")
    assert warning(10, "passages") is None


@pytest.mark.parametrize(("epochs", "halved"), [(1, 0), (2, 1), (4, 2), (5, 2)])
def test_the_first_epochs_see_halves_of_passages(epochs: int, halved: int) -> None:
    recipe = Recipe(epochs=epochs, resolution=True)
    assert [pieces(recipe, epoch) for epoch in range(epochs)] == [2] * halved + [1] * (epochs - halved)
    assert pieces(Recipe(epochs=4), 0) == 1


def test_matrices_have_a_rate_of_their_own() -> None:
    moved = []
    for factor in (1.0, 3.0):
        weight = nn.Parameter(torch.zeros(4, 4))
        recipe = Recipe(optimizer="muon", matrices=factor, weight_decay=0.0)
        optimizer = Optimizer({"w": weight, "b": nn.Parameter(torch.zeros(4))}, recipe, decayed=(), matrices={"w": 1})
        weight.grad = torch.eye(4)
        optimizer.step(Rates(0.01, 0.9))
        moved.append(weight.detach().clone())
    torch.testing.assert_close(moved[1], 3 * moved[0])


@pytest.mark.parametrize("a", DECODERS.values(), ids=list(DECODERS))
def test_parts_of_the_work_add_up(a: object) -> None:
    assert sum(part.macs for part in operations(a).values()) == count_macs(a).value  # type: ignore[arg-type]
