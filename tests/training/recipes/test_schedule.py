"""Rates, decays and sides by the number of the step."""

from __future__ import annotations

import warnings

import pytest
import torch

from wb.training.average import Average
from wb.training.recipes.recipe import Recipe
from wb.training.recipes.schedule import decay, rates, side


@pytest.mark.parametrize("steps", [10, 77, 1000])
def test_one_cycle_is_that_of_torch(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule steps without the optimizer
        for step in range(steps):
            group = optimizer.param_groups[0]
            assert rates(Recipe(), step, steps) == pytest.approx((group["lr"], group["betas"][0]), rel=1e-9, abs=1e-15)
            if step < steps - 1:
                schedule.step()


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.05), (3, 0.5), (100, 0.1), (100, 0.0), (64, 1.0)])
def test_the_cosine_rises_to_the_peak_and_falls_to_its_floor(steps: int, warmup: float) -> None:
    recipe = Recipe(schedule="cosine", learning_rate=2.0, warmup=warmup, floor=0.01)
    found = [rates(recipe, step, steps).learning_rate for step in range(steps)]
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert max(found) == pytest.approx(2.0)
    assert min(found) > 0
    assert top == pytest.approx(warmup * steps, abs=1)
    if steps > 3 and warmup < 1:
        assert found[-1] == pytest.approx(0.02)


def test_the_average_follows_quickly_at_first() -> None:
    assert [decay(0), decay(10), decay(10**6)] == pytest.approx([0.1, 11 / 20, 0.999])
    value, count = torch.tensor([1.0]), torch.tensor(3)
    average = Average({"value": value, "count": count})
    expected = 1.0
    for step, now in enumerate((2.0, -3.0, 5.0)):
        value.fill_(now)
        average.follow(step)
        kept = (1 + step) / (10 + step)
        expected = kept * expected + (1 - kept) * now
    average.settle()
    assert value.item() == pytest.approx(expected)
    assert count.item() == 3, "a number of steps has no average"


def test_sides_grow() -> None:
    recipe = Recipe(epochs=10, resolution=True)
    assert [side(recipe, epoch, 32) for epoch in range(10)] == [20] * 5 + [24] * 3 + [32] * 2
    assert side(Recipe(epochs=10), 0, 32) == 32
    assert side(recipe, 0, 4) == 4
