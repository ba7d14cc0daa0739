"""Positions of windows and of the whole picture, place by place."""

from __future__ import annotations

import pytest
import torch

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Tiled
from wb.models.network import Network, build


def network(image: ImageInput, position: Tiled, prefix: int = 0) -> Network:
    stages = (Stage(embed=3, blocks=(Block(ffn=Mlp(mlp=3)),)),)
    built = build(assembled(input=image, stem=PatchStem(patch=2), stages=stages, position=position, prefix=prefix))
    built.reset()
    return built


def added(built: Network, prefix: int) -> torch.Tensor:
    return built.positions.placed(built, torch.zeros(1, prefix + 16, 3))[0]


@pytest.mark.parametrize("prefix", [0, 2])
@torch.no_grad()
def test_a_window_is_repeated_and_a_picture_as_large_is_added_as_it_is(image: ImageInput, prefix: int) -> None:
    built = network(image, Tiled(places=4, window=2), prefix)
    whole, window, found = (*(built.get_parameter(name) for name in ("position", "window")), added(built, prefix))
    assert not found[:prefix].any()
    for place in range(16):
        row, column = divmod(place, 4)
        expected = whole[:, row, column] + window[:, row % 2, column % 2]
        torch.testing.assert_close(found[prefix + place], expected)


@torch.no_grad()
def test_a_coarse_picture_is_enlarged_and_a_settled_network_has_the_sum(image: ImageInput) -> None:
    built = network(image, Tiled(places=1, window=9))  # one vector for all, and a window that is the picture
    built.get_parameter("window").zero_()
    before = added(built, 0)
    torch.testing.assert_close(before, built.position[:, 0, 0].expand(16, 3))
    built.positions.settle(built)
    assert built.position.shape == (16, 3)
    torch.testing.assert_close(added(built, 0), before)


@torch.no_grad()
def test_what_is_missing_in_every_window_is_taken_over(image: ImageInput) -> None:
    built = network(image, Tiled(places=3, window=2))
    before, by = added(built, 0), torch.arange(12.0).reshape(2, 2, 3).repeat(2, 2, 1).flatten(0, 1)
    built.positions.moved(built, by)
    torch.testing.assert_close(added(built, 0), before + by)


def test_windows_have_to_fit(image: ImageInput) -> None:
    with pytest.raises(
        ValueError, match=r"position 'tiled' cuts the tokens into squares of 3x3, which 4x4 are no multiple"
    ):
        network(image, Tiled(window=3))
