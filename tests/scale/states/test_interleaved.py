from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from wb.core.errors import Unsupported
from wb.scale.states.interleaved import InterleavedAdamW
from wb.scale.states.plan import ATTACHED, Speeds, best
from wb.scale.states.pools import Link, Pace, Pool
from wb.training.optimizer import Optimizer
from wb.training.recipes.recipe import Recipe

SIZES = (1000, 37, 8, 513)


def weights() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(size).requires_grad_() for size in SIZES]


def groups(of: list[Tensor]) -> list[dict[str, Any]]:
    return [{"params": of[:2], "weight_decay": 0.1}, {"params": of[2:], "weight_decay": 0.0}]


@pytest.fixture
def made() -> Iterator[Any]:
    """Makes an interleaved optimizer, whose threads end with the test."""
    there = []

    def make(of: list[Tensor], link: Link | None = None, **options: Any) -> InterleavedAdamW:
        there.append(InterleavedAdamW(groups(of), link or Link(Pool(), Pool()), size=130, **{"lr": 1e-2, **options}))
        return there[-1]

    yield make
    for one in there:
        one.close()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("k", [0, 1, 2, 3, None])
def test_weights_are_those_of_adamw_to_the_bit(k: int | None, fused: bool, made: Any) -> None:
    """Some weights lack a gradient in some steps; the state is exchanged in the middle; the rate changes."""
    ours, theirs = weights(), weights()
    first, second = made(ours, k=k, fused=fused), torch.optim.AdamW(groups(theirs), lr=1e-2, fused=fused)
    for step in range(12):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            other.grad = None if (step + number) % 5 == 0 else torch.randn_like(other)
            one.grad = None if other.grad is None else other.grad.clone()
        for optimizer in (first, second):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / (1 + step)
            optimizer.step()
        if step == 6:
            states = first.state_dict(), second.state_dict()
            first.load_state_dict(states[1])
            second.load_state_dict(states[0])
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_what_travels_is_what_the_model_says(made: Any) -> None:
    for k in (0, 1, 2):
        of = weights()
        optimizer = made(of, k=k)
        for step in range(2):
            for weight in of:
                weight.grad = torch.ones_like(weight)
            optimizer.link.moved[:] = [0, 0]
            optimizer.step()
            del step
        sizes = [sum(map(len, group)) for group in optimizer._groups]
        fast = sum(size for number, size in enumerate(sizes) if k and number % k == k - 1)
        slow = sum(sizes) - fast
        assert optimizer.link.moved == [
            ATTACHED.fetch * fast + ATTACHED.send * slow,
            ATTACHED.flush * fast + ATTACHED.grad * slow,
        ]


@pytest.mark.parametrize("speeds", [Speeds(2e3, 1e9, 1e9), Speeds(1e6, 25e6, 16e6), Speeds(1e6, 1e6, 1e3)])
def test_k_is_the_best_one_for_the_rates_that_are_measured(
    speeds: Speeds, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = weights()
    for weight in of:
        weight.grad = torch.ones_like(weight)
    monkeypatch.setattr(InterleavedAdamW, "measured", lambda _: speeds)
    optimizer = made(of)
    optimizer.step()
    assert optimizer.speeds == speeds
    assert optimizer.k == best(speeds, len(optimizer._groups), optimizer.size, optimizer.slots, ATTACHED)


def test_rates_are_those_of_the_pools_at_most(made: Any) -> None:
    """A busy machine only adds to what is waited for."""
    of = weights()
    for weight in of:
        weight.grad = torch.ones_like(weight)
    optimizer = made(of, Link(Pool(pace=Pace(2e4)), Pool(pace=Pace(4e4)), Pace(2e5)))
    optimizer.step()
    found = optimizer.speeds
    assert 0 < found.slow <= 2e4
    assert 0 < found.fast <= 4e4
    assert 0 < found.link <= 2e5


def test_a_recipe_needs_a_second_device() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(Unsupported, match="torch finds no GPU here; choose adamw"):
        Optimizer({"w": weight}, Recipe(optimizer="interleaved"), decayed=(), matrices={})
