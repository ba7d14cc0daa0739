"""One tiny network that has learned something, shared by the tests of pruning."""

from __future__ import annotations

import pytest

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.data import Dataset
from wb.models.model import Model
from wb.training.fit import Recipe
from wb.training.train import train


@pytest.fixture(scope="session")
def small(image: ImageInput) -> Architecture:
    """Two blocks of two heads; every width is another."""
    block = Block(mixer=Softmax(heads=2, qk=6, v=5), ffn=Mlp(mlp=20))
    stage = Stage(embed=12, blocks=(block, block))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=3, labels=("a", "b", "c"))


@pytest.fixture(scope="session")
def trained(small: Architecture, stripes: Dataset) -> Model:
    """A model that knows the stripes."""
    return train(small, stripes, Recipe(epochs=15, learning_rate=1e-2))
