"""Flips, crops and resized crops, against slices of the images themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.training.augment.crop import crop, resized_crop, warped
from wb.training.augment.flip import flip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(40, 3, 10, 8, generator=seeded(1))


def test_half_of_the_images_are_mirrored_and_twice_is_not_at_all(images: Tensor) -> None:
    once = flip(images, seeded())
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(once, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(once, images, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    assert 10 < sum(turned) < 30
    assert torch.equal(flip(once, seeded()), images)


def test_a_crop_is_a_window_of_the_reflected_image(images: Tensor) -> None:
    found = crop(images, 0.25, seeded())
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    places = []
    for window, whole in zip(found, padded, strict=True):
        fits = [(r, c) for r in range(5) for c in range(5) if torch.equal(whole[:, r : r + 10, c : c + 8], window)]
        assert fits
        places.append(fits[0])
    assert {r for r, _ in places} == {c for _, c in places} == set(range(5)), "every place is drawn"


def test_a_crop_without_a_border_is_the_image_and_a_border_is_no_larger_than_it(images: Tensor) -> None:
    assert torch.equal(crop(images, 0.0, seeded()), images)
    assert crop(images[:, :, :2, :3], 1.0, seeded()).shape == (40, 3, 2, 3)


def test_reading_images_where_they_are_changes_nothing(images: Tensor) -> None:
    torch.testing.assert_close(warped(images, torch.eye(2, 3).expand(40, 2, 3)), images)


def test_a_window_is_scaled_as_interpolation_scales_it(images: Tensor) -> None:
    theta = torch.tensor([[0.5, 0.0, -0.5], [0.0, 1.0, 0.0]]).expand(40, 2, 3)  # the left half
    expected = F.interpolate(images[:, :, :, :4], (10, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(warped(images, theta)[..., 1:-1], expected[..., 1:-1])


def test_a_window_lies_within_the_image() -> None:
    ramp = torch.linspace(0, 1, 8).expand(60, 1, 8, 8)
    found = resized_crop(ramp, 0.25, seeded())
    assert found.min() >= 0
    assert found.max() <= 1
    spans = (found.amax(dim=(1, 2, 3)) - found.amin(dim=(1, 2, 3))) / 1.0
    assert spans.min() > 0.5 * 0.75 - 1 / 7, "the narrowest has a quarter of the area and three to four"
    assert (found.diff(dim=-1) >= -1e-6).all(), "and is not mirrored"
