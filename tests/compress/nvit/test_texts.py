"""Pruning of networks that take texts: what it looks at does not depend on the padding behind them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.catalogue import CATALOGUE
from tests.networks import exactly, images, noise, random_model
from wb.compress.nvit.bases import rebased
from wb.compress.nvit.compensate import lane_of
from wb.compress.nvit.nvit import NViT
from wb.compress.nvit.saliency import score
from wb.core.architecture import axis_sizes
from wb.models.axes import Select
from wb.models.model import Model, remap_model
from wb.training.refit.correct import Correction
from wb.training.refit.trace import cut

NAMES = ("text-softmax", "text-cls", "text-cls-linear-post")


def exact(model: Model) -> Model:
    """Its weights in float64."""
    return replace(model, weights={name: exactly(weight) for name, weight in model.weights.items()})


def alone(ids: Tensor) -> list[Tensor]:
    """Each text without padding."""
    return [row[row >= 0][None] for row in ids]


def test_batches_end_where_the_longest_text_does() -> None:
    ids = torch.tensor([[1, 2, -1, -1], [3, -1, -1, -1], [4, 5, 6, -1]])
    assert [part.tolist() for part in cut(ids, 2)] == [[[1, 2], [3, -1]], [[4, 5, 6]]]
    assert [part.shape for part in cut(torch.full((1, 3), -1))] == [(1, 1)]


@pytest.mark.parametrize("name", NAMES[:2])
def test_bases_are_those_of_the_tokens_that_count(name: str) -> None:
    model = random_model(CATALOGUE[name])
    ids = images(model.architecture, 9)
    together, apart = rebased(model, [ids]), rebased(model, alone(ids))
    assert any(not torch.equal(weight, model.weights[at]) for at, weight in together.weights.items())
    for at, weight in together.weights.items():
        torch.testing.assert_close(weight, apart.weights[at], rtol=1e-4, atol=1e-5, msg=at)


@pytest.mark.parametrize("name", NAMES)
def test_compensation_fits_the_tokens_that_count(name: str) -> None:
    dense = exact(random_model(CATALOGUE[name]))
    halves = {
        axis: Select(torch.arange(0, size, 2)) for axis, size in axis_sizes(dense.architecture).items() if size > 1
    }
    pruned = remap_model(dense, halves)
    kept = {axis: half.index for axis, half in halves.items() if axis.endswith("embed")}
    ids = images(dense.architecture, 12)

    def fitted(parts: list[Tensor]) -> Model:
        correction = Correction(pruned, [lane_of(dense, pruned, kept)], ids, "writers", ridge=1e-3)
        correction.batches = parts
        return correction()

    together, apart = fitted([ids]), fitted(alone(ids))
    assert not torch.equal(together.weights["head"], pruned.weights["head"])
    for at, weight in together.weights.items():
        torch.testing.assert_close(weight, apart.weights[at], rtol=1e-6, atol=1e-8, msg=at)


@pytest.mark.parametrize("name", NAMES)
def test_saliency_is_that_of_the_tokens_that_count(name: str) -> None:
    model = random_model(CATALOGUE[name])
    ids, more = images(model.architecture, 6), torch.full((6, 2), -1)
    labels = torch.arange(6) % 3
    short, long = (score(model.network().double(), [(x, labels)], "nvit") for x in (ids, torch.cat([ids, more], 1)))
    for at, value in short.items():
        torch.testing.assert_close(long[at], value, rtol=1e-6, atol=1e-12, msg=at)


def test_recovery_sees_texts_as_a_training_does() -> None:
    a = CATALOGUE["text-softmax"]
    recipe = NViT(noise(a), {}, {})._recovery(a)
    assert (recipe.name, recipe.augment) == ("text", "none")
    assert recipe.learning_rate == NViT(noise(a), {}, {}).settings.learning_rate
