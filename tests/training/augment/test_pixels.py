"""Colours, erased rectangles and single changes: what they keep, and what they do at full and at no strength."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wb.training.augment import trivial as module
from wb.training.augment.colour import jitter, recoloured
from wb.training.augment.erase import erase
from wb.training.augment.trivial import trivial


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[1, 3])
def images(request: pytest.FixtureRequest) -> Tensor:
    levels = torch.randint(0, 256, (50, request.param, 9, 7), generator=seeded(1))
    return levels / 255


def test_colours_by_one_stay_and_by_nothing_go(images: Tensor) -> None:
    one, none = torch.ones(50), torch.zeros(50)
    torch.testing.assert_close(recoloured(images, one, one, one), images)
    assert not recoloured(images, none, one, one).any()
    assert recoloured(images, one, none, one).flatten(1).std(dim=1).max() < 1e-6, "no contrast is one grey"
    assert recoloured(images, one, one, none).std(dim=1, correction=0).max() < 1e-6, "no saturation is grey"
    torch.testing.assert_close(recoloured(images / 4, 2 * one, one, one), images / 2)


def test_jitter_stays_in_bounds_and_differs_by_image(images: Tensor) -> None:
    same = images[:1].expand_as(images)
    found = jitter(same, 0.5, seeded())
    assert found.min() >= 0
    assert found.max() <= 1
    assert len(found.mean(dim=(1, 2, 3)).unique()) > 40
    torch.testing.assert_close(jitter(images, 0.0, seeded()), images)


def test_an_erased_rectangle_is_the_mean_colour(images: Tensor) -> None:
    found = erase(images, 1.0, seeded())
    mean = images.mean(dim=(2, 3), keepdim=True)
    for image, new, colour in zip(images, found, mean, strict=True):
        gone = (new != image).any(dim=0)
        rows, columns = gone.any(dim=1).nonzero().flatten(), gone.any(dim=0).nonzero().flatten()
        inside = new[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        torch.testing.assert_close(inside, colour.expand_as(inside))
        assert 1 <= inside[0].numel() <= 9 * 7 / 3 + 9 + 7
    assert torch.equal(erase(images, 0.0, seeded()), images)
    share = (erase(images, 0.5, seeded()) != images).flatten(1).any(dim=1).float().mean()
    assert 0.25 < share < 0.75


@pytest.mark.parametrize("kind", range(len(module._KINDS)))
def test_a_change_of_no_strength_is_none_and_one_of_full_strength_is_some(images: Tensor, kind: int) -> None:
    change = module._KINDS[kind]
    torch.testing.assert_close(change(images, torch.zeros(50)), images)
    for strength in (-1.0, 1.0):
        found = change(images, torch.full((50,), strength))
        assert found.shape == images.shape
        assert found.min() >= -1e-6
        assert found.max() <= 1 + 1e-6
        if images.shape[1] == 3 or kind != 7:  # grey has no saturation
            assert not torch.allclose(found, images, atol=1e-3)


def test_turning_goes_round_the_middle() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, :] = 1.0  # a level line
    found = module._turned(image, torch.ones(1))
    assert found[0, 0, 4, 4] > 0.9
    assert found[0, 0, 4, 0] < 0.5


def test_every_image_has_a_change_of_its_own(images: Tensor) -> None:
    same = images[:1].expand(50, -1, -1, -1)
    found = trivial(same, seeded())
    assert len({tuple(image.flatten().tolist()) for image in found}) > 30
    assert torch.equal(found, trivial(same, seeded()))
