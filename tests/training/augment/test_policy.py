"""What a recipe does to a batch: everything from one generator, and the plain recipe shifts alone."""

from __future__ import annotations

import pytest
import torch

from wb.data.batches import shift
from wb.training.augment.policy import augmented
from wb.training.recipes.recipe import Recipe

IMAGES, LABELS = torch.rand(16, 3, 20, 12, generator=torch.Generator().manual_seed(5)), torch.arange(16)
FULL = Recipe(augment="trivial", flip="on", colour=0.3, erase=0.5, mixup=0.4, cutmix=0.6)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_plain_recipe_shifts_and_none_leaves_images_alone() -> None:
    found, mixed = augmented(IMAGES, LABELS, Recipe(), seeded())
    assert torch.equal(found, shift(IMAGES, seeded()))
    assert mixed is None
    assert torch.equal(augmented(IMAGES, LABELS, Recipe(augment="none"), seeded())[0], IMAGES)


@pytest.mark.parametrize("augment", ["none", "shift", "crop", "resize", "trivial"])
def test_the_same_draws_give_the_same_batch(augment: str) -> None:
    recipe = FULL.model_copy(update={"augment": augment})
    (a, one), (b, two), (c, _) = (augmented(IMAGES, LABELS, recipe, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert one is not None
    assert two is not None
    assert torch.equal(one.labels, two.labels)
    assert one.share == two.share


def test_flips_can_be_held_back() -> None:
    recipe = Recipe(augment="none", flip="on")
    assert not torch.equal(augmented(IMAGES, LABELS, recipe, seeded())[0], IMAGES)
    assert torch.equal(augmented(IMAGES, LABELS, recipe, seeded(), flips=False)[0], IMAGES)


def test_the_shorter_side_is_brought_to_a_size() -> None:
    assert augmented(IMAGES, LABELS, Recipe(), seeded(), side=6)[0].shape == (16, 3, 10, 6)
    assert augmented(IMAGES, LABELS, Recipe(), seeded(), side=12)[0].shape == IMAGES.shape


def test_a_share_of_the_batches_is_mixed() -> None:
    recipe = Recipe(augment="none", cutmix=0.3, mixup=0.2)
    generator = seeded()
    mixed = [augmented(IMAGES, LABELS, recipe, generator)[1] for _ in range(200)]
    assert 70 < sum(one is not None for one in mixed) < 130
