"""Sinusoidal positions against the formula, number by number."""

from __future__ import annotations

import math

import pytest
import torch

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Sinusoid
from wb.models.axes import Select
from wb.models.model import from_network, remap_model
from wb.models.network import Network, build
from wb.models.positions.sinusoid import sinusoids


def network(image: ImageInput, prefix: int = 0) -> Network:
    stages = (Stage(embed=6, blocks=(Block(ffn=Mlp(mlp=3)),)),)
    built = build(assembled(input=image, stem=PatchStem(patch=2), stages=stages, position=Sinusoid(), prefix=prefix))
    built.reset()
    return built


@pytest.mark.parametrize("channels", [6, 7])
def test_they_are_what_the_paper_says(channels: int) -> None:
    table = sinusoids(5, channels)
    assert table.shape == (5, channels)
    for place in range(5):
        for i in range(channels):
            angle = place / 10_000 ** (2 * (i // 2) / channels)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert float(table[place, i]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prefix", [0, 1, 3])
@torch.no_grad()
def test_they_are_added_to_the_tokens_of_the_stem_only(image: ImageInput, prefix: int) -> None:
    built = network(image, prefix)
    x = torch.zeros(2, prefix + 16, 6)
    placed = built.positions.placed(built, x)
    torch.testing.assert_close(placed[1], torch.cat([torch.zeros(prefix, 6), sinusoids(16, 6).float()]))


def test_initial_values_draw_nothing(image: ImageInput) -> None:
    built = network(image)
    state = torch.get_rng_state()
    built.positions.reset(built)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_gradient_reaches_them(image: ImageInput) -> None:
    built = network(image)
    built(torch.rand(2, 1, 8, 8)).sum().backward()
    assert built.position.grad is None
    assert built.head.grad is not None


def test_they_follow_the_channels_of_a_pruned_stream(image: ImageInput) -> None:
    built = network(image)
    kept = torch.tensor([4, 1, 2])
    pruned = remap_model(from_network(built.architecture, built), {"s0.embed": Select(kept)})
    torch.testing.assert_close(pruned.network().position, built.position[:, kept])
