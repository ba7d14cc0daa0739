from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from wb.training.linear import decayed, matrices
from wb.training.optimizer import Optimizer
from wb.training.recipes.recipe import Recipe
from wb.training.recipes.schedule import Rates

RATE = 0.01


def trained(network: nn.Module, recipe: Recipe, steps: int, optimizer: Optimizer | None = None) -> Optimizer:
    """The optimizer after so many steps on the same made-up batches."""
    optimizer = optimizer or made(network, recipe)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step(Rates(RATE, 0.9))
    return optimizer


def made(network: nn.Module, recipe: Recipe) -> Optimizer:
    weights = dict(network.named_parameters())
    return Optimizer(weights, recipe, decayed=decayed(network), matrices=matrices(network))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 16), nn.Linear(16, 2)
    )


def test_matrices_are_dense_maps_but_the_last() -> None:
    assert matrices(network()) == {"0.weight": 1, "4.weight": 1}


def test_the_step_of_a_matrix_is_about_orthogonal_and_as_large_as_one_of_adamw() -> None:
    net = network()
    weight = net.get_parameter("4.weight")
    before = weight.detach().clone()
    trained(net, Recipe(optimizer="muon", weight_decay=0.0), 1)
    step = (weight.detach() - before).double()
    values = torch.linalg.svdvals(step) / (0.2 * RATE * math.sqrt(128))
    assert (values < 1.6).all()
    assert (values[:2] > 0.4).all()  # the gradient has rank 2: so many directions are known
    assert 0.05 * RATE < step.square().mean().sqrt() < RATE


@pytest.mark.parametrize("name", ["0.bias", "2.weight", "5.weight", "5.bias"])
def test_all_other_weights_are_trained_as_by_adamw(name: str) -> None:
    first, second = network(), network()
    trained(first, Recipe(optimizer="muon"), 1)
    trained(second, Recipe(optimizer="adamw"), 1)
    assert torch.equal(first.get_parameter(name), second.get_parameter(name))
    assert not torch.equal(first.get_parameter("0.weight"), second.get_parameter("0.weight"))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_stored_state_continues_as_if_it_had_not_been_stored(kind: str) -> None:
    recipe = Recipe.model_validate({"optimizer": kind})
    whole, resumed = network(), network()
    kept = trained(whole, recipe, 2)
    state = trained(resumed, recipe, 2).state_dict()
    trained(whole, recipe, 1, kept)
    fresh = made(resumed, recipe)
    fresh.load_state_dict(state)
    trained(resumed, recipe, 1, fresh)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_weight_without_a_gradient_stays() -> None:
    net = network()
    optimizer = made(net, Recipe(optimizer="muon", weight_decay=0.1))
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimizer.zero_grad()
    optimizer.step(Rates(RATE, 0.9))
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
