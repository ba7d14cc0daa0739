"""Layer norms that give way: to the formula, in a straight line, in training steps alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.networks import images, normed, of_digits, random_model
from wb.core.records.norms import LayerNorm, RepNorm
from wb.data import Dataset
from wb.models.block import build_norm
from wb.models.model import Model
from wb.models.norms import rep
from wb.training.fit import Recipe
from wb.training.recipes.layered import layered, share
from wb.training.train import Finetune


def test_the_share_falls_in_a_straight_line_and_then_is_none() -> None:
    recipe = Recipe(layered=0.5)
    assert [share(recipe, step, 8) for step in range(8)] == [1, 0.75, 0.5, 0.25, 0, 0, 0, 0]
    assert {share(Recipe(), step, 8) for step in range(8)} == {0}
    assert [share(Recipe(layered=1), step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
@torch.no_grad()
def test_a_norm_is_both_by_their_shares(part: float) -> None:
    norm = build_norm(RepNorm(eps=0.1), 5).double().train()
    generator = torch.Generator().manual_seed(0)
    for weight in norm.parameters():
        weight.normal_(generator=generator)
    norm.get_parameter("variance").abs_()
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    w = {name: weight.tolist() for name, weight in norm.named_parameters()}
    expected = torch.empty_like(x)
    for c in range(5):
        of_batch = x[..., c].flatten().tolist()
        mean = sum(of_batch) / 12
        spread = (sum((v - mean) ** 2 for v in of_batch) / 12 + 0.1) ** 0.5
        for i in range(3):
            for j in range(4):
                token = x[i, j].tolist()
                middle = sum(token) / 5
                wide = (sum((v - middle) ** 2 for v in token) / 5 + 0.1) ** 0.5
                layer = (token[c] - middle) / wide * w["gain"][c] + w["shift"][c]
                batch = (token[c] - mean) / spread * w["gain"][c] + w["shift"][c] + w["alpha"] * token[c]
                expected[i, j, c] = part * layer + (1 - part) * batch
    with layered(nn.Sequential(norm), part):
        torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)
        norm.eval()
        alone = norm(x)
    assert torch.equal(norm(x), alone), "outside of training there is no layer norm in it"


@torch.no_grad()
def test_a_network_begins_as_it_was_with_layer_norms() -> None:
    plain = random_model(normed(of_digits(), LayerNorm(eps=1e-3)), gain=1.0)
    given = random_model(normed(of_digits(), RepNorm(eps=1e-3)))
    model = replace(given, weights={**given.weights, **plain.weights})
    network, x = model.network().train(), images(model.architecture, 5)
    with layered(network, 1.0):
        torch.testing.assert_close(network(x), plain.network()(x))
    assert not torch.allclose(network(x), plain.network()(x), atol=1e-2)


def test_training_follows_the_schedule(striped: Model, stripes: Dataset) -> None:
    """Step by step; statistics are found without layer norms, whatever the share was."""
    a = normed(striped.architecture, RepNorm())
    seen: list[tuple[bool, float]] = []

    def note(module: nn.Module, *_: object) -> None:
        if isinstance(module, rep.RepNorm) and module.training:
            seen.append((module.watched is not None, module.layered))

    recipe = Recipe(epochs=2, batch=16, layered=0.5)
    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        Finetune(stripes, recipe)(random_model(a))
    finally:
        handle.remove()
    norms = 1 + 2 * sum(not block.off for _, _, block in a.blocks())
    steps = recipe.steps(len(stripes.train))
    told = [part for watched, part in seen if not watched]
    assert told == [share(recipe, step, steps) for step in range(steps) for _ in range(norms)]
    assert {part for watched, part in seen if watched} == {0.0}
