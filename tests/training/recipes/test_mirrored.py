"""Whether mirrored images keep their class: told by a network that was trained without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wb.data import Dataset, Split
from wb.data.split import Images
from wb.tasks.classes import CLASSES
from wb.training.recipes.mirrored import Mirrored, mirrored
from wb.training.recipes.recipe import Flip, Recipe
from wb.training.train import fit_module


def ramps(count: int, seed: int) -> Split:
    """Two classes that mirroring swaps: brighter to the left, and to the right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    ramp = np.linspace(0, 0.7, 8, dtype=np.float32)
    images = np.where(labels[:, None] == 0, ramp[::-1], ramp)[:, None, None, :] + 0.3 * rng.random(
        (count, 1, 8, 8), dtype=np.float32
    )
    return Images(images.astype(np.float32), labels)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset("ramps", "ramps", ramps(96, 0), ramps(60, 1), ramps(60, 2), ("left", "right"), "0")


def leftness(images: Tensor) -> Tensor:
    """Scores that are right for every ramp."""
    towards = images[..., :4].mean(dim=(1, 2, 3)) - images[..., 4:].mean(dim=(1, 2, 3))
    return torch.stack([towards, -towards], dim=1)


def test_the_shares_are_counted(data: Dataset) -> None:
    found = mirrored(leftness, data.validation, CLASSES, torch.device("cpu"))
    assert found[:2] == (1.0, 0.0)
    assert found.chance == max(np.bincount(data.validation.labels)) / 60
    assert found.images == 60
    assert not found.keeps
    assert "100.0% of 60 validation images, and 0.0% of them mirrored" in found.text


@pytest.mark.parametrize(
    ("found", "keeps"),
    [
        (Mirrored(0.78, 0.31, 0.2, 500), False),
        (Mirrored(0.78, 0.75, 0.2, 500), True),
        (Mirrored(0.35, 0.33, 0.2, 500), True),
        (Mirrored(0.22, 0.20, 0.2, 40), True),
    ],
)
def test_a_loss_counts_if_it_is_large_and_sure(found: Mirrored, keeps: bool) -> None:
    assert found.keeps == keeps


@pytest.mark.parametrize(("flip", "best"), [("try", True), ("off", True), ("on", False)])
def test_flips_that_change_classes_are_left_out(
    data: Dataset, flip: Flip, best: bool, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    recipe = Recipe(epochs=20, flip=flip, augment="none", learning_rate=0.05, batch=16)
    found = fit_module(module, data, recipe, task=CLASSES)
    right = mirrored(module, data.test, CLASSES, torch.device("cpu")).plain
    assert (right > 0.9) == best
    assert (found is None) == (flip == "off")
    assert found is None or not found.keeps
    said = {"try": ["flips were left out, since"], "on": ["flips hurt here, since"], "off": []}[flip]
    assert [record.getMessage()[: len(text)] for record, text in zip(caplog.records, said, strict=True)] == said
