"""Statistics of batch norms are those of the training images that were shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.networks import assembled, random_model
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import ImageInput, Mlp, Nowhere, PatchStem
from wb.core.records.norms import BatchNorm
from wb.data import Dataset
from wb.models.norms.batch import BatchNorm as BatchNormModule
from wb.training import statistics
from wb.training.statistics import find_from, find_statistics, with_statistics


@pytest.fixture
def architecture(image: ImageInput) -> Architecture:
    """One batch norm in front of one operator, on tokens."""
    stage = Stage(embed=6, blocks=(Block(ffn=Mlp(mlp=5), norm=BatchNorm()),))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), position=Nowhere())


def test_they_are_the_moments_of_all_images_that_were_shown(architecture: Architecture, stripes: Dataset) -> None:
    network = random_model(architecture).network()
    images = torch.from_numpy(stripes.train.pixels())[:24]
    find_from(network, [images[:8], images[8:16], images[16:]])
    seen = network.tokens(images).flatten(0, 1)
    norm = network.get_submodule("stages.0.0.norm2")
    assert isinstance(norm, BatchNormModule)
    torch.testing.assert_close(norm.statistic("", "mean").detach(), seen.mean(0).detach())
    torch.testing.assert_close(norm.statistic("", "variance").detach(), seen.var(0, correction=0).detach())


def test_every_network_is_shown_the_same_images(architecture: Architecture, stripes: Dataset) -> None:
    model = random_model(architecture)
    once, again = (with_statistics(model, stripes.train) for _ in range(2))
    assert all(torch.equal(weight, again.weights[name]) for name, weight in once.weights.items())
    changed = {name for name, weight in once.weights.items() if not torch.equal(weight, model.weights[name])}
    assert changed == {"stages.0.0.norm2.mean", "stages.0.0.norm2.variance"}
    assert with_statistics(once, stripes.train).fingerprint() == once.fingerprint()


def test_no_more_images_are_shown_than_wanted(
    architecture: Architecture, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "BATCH", 4)
    monkeypatch.setattr(statistics, "IMAGES", 8)
    network = random_model(architecture).network()
    shown: list[int] = []
    network.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
    find_statistics(network, stripes.train)
    assert shown == [4, 4]
    assert not network.training


def test_a_network_without_batch_norms_stays_as_it_is(architecture: Architecture, stripes: Dataset) -> None:
    plain = architecture.with_blocks(lambda _, block: block.model_copy(update={"norm": None}))
    model = random_model(plain)
    assert with_statistics(model, stripes.train) is model
    network = model.network()
    network.register_forward_pre_hook(lambda *_: pytest.fail("it is run"))
    find_statistics(network, stripes.train)
    assert replace(model, weights=dict(network.named_parameters())).fingerprint() == model.fingerprint()
