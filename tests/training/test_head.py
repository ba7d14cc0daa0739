"""New heads: what they leave alone, what they know, and of whatever network they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.catalogue import CATALOGUE
from tests.networks import hybrid, of_digits, random_model
from wb.core.errors import BadData
from wb.core.records import TextInput
from wb.data import Dataset, load
from wb.data.split import Images
from wb.models.model import Model
from wb.models.passes.base import apply
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.head import NewHead
from wb.training.train import Finetune, score

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def textures() -> Dataset:
    """Four classes: stripes one way or the other, squares, and none."""
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 4
    pixels = generator.random((200, 1, 8, 8), dtype=np.float32) * 0.3
    rows, columns = np.indices((8, 8)) % 2
    for image, label in zip(pixels, labels, strict=True):
        image += 0.6 * (rows, columns, rows ^ columns, 0 * rows)[label]
    split = Images(pixels, labels.astype(np.int64))
    train, validation, test = (split.take(slice(start, end)) for start, end in ((0, 120), (120, 160), (160, 200)))
    return Dataset("textures", "textures", train, validation, test, ("rows", "columns", "squares", "none"), "f")


def unlike_head(model: Model) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.weights.items() if name not in ("head", "head_bias")}


@pytest.fixture(scope="module")
def model() -> Model:
    """A network of random weights, which tell textures apart."""
    return random_model(of_digits())


@pytest.fixture(scope="module")
def headed(model: Model, textures: Dataset) -> Model:
    """The network, with a head for textures."""
    return apply(NewHead(textures, 1), model)


def test_the_head_knows_the_classes_and_the_rest_is_as_it_was(headed: Model, model: Model, textures: Dataset) -> None:
    assert headed.architecture.head.labels == textures.classes
    assert all(torch.equal(weight, model.weights[name]) for name, weight in unlike_head(headed).items())
    assert score(headed.network(), textures.test, CLASSES, CPU).value > 0.9
    *before, step = headed.history
    assert tuple(before) == model.history
    assert (step.name, step.arguments["classes"], step.arguments["before"]) == ("head", 4, 10)
    assert step.arguments["parent"] == model.fingerprint()
    assert step.readings["validation"].n == 40


def test_no_other_scale_has_a_smaller_loss(headed: Model, model: Model, textures: Dataset) -> None:
    """Of those that are tried; least squares alone answers with numbers between zero and one."""
    pixels, labels = torch.from_numpy(textures.validation.pixels()), torch.from_numpy(textures.validation.labels)
    with torch.no_grad():
        logits = headed.network()(pixels)
    losses = [CLASSES.loss(logits * factor, labels).item() for factor in (0.5, 2**-0.5, 1.0, 2**0.5, 2.0)]
    assert losses.index(min(losses)) == 2
    quarter = NewHead(textures, 1, 0.25)(model)
    torch.testing.assert_close(quarter.weights["head"], headed.weights["head"] / 4)


def test_a_frozen_model_changes_in_its_head_alone(headed: Model, textures: Dataset) -> None:
    tuned = Finetune(textures, Recipe(epochs=1), freeze=True)(headed)
    assert all(torch.equal(weight, headed.weights[name]) for name, weight in unlike_head(tuned).items())
    assert not torch.equal(tuned.weights["head"], headed.weights["head"])
    assert tuned.history[-1].arguments["freeze"] is True


def test_statistics_of_a_frozen_network_stay(textures: Dataset) -> None:
    """Of convolutions and tokens; and what gives no finite numbers is refused."""
    model, split = random_model(hybrid()), textures.train.take(slice(40))
    colour = replace(split, images=split.images.repeat(2, axis=1))
    data = replace(textures, train=colour, validation=colour, test=colour)
    tuned = apply(Finetune(data, Recipe(epochs=1), freeze=True), apply(NewHead(data), model))
    assert all(torch.equal(weight, model.weights[name]) for name, weight in unlike_head(tuned).items())
    broken = {**model.weights, "norm.gain": torch.full_like(model.weights["norm.gain"], 1e38)}
    with pytest.raises(BadData, match="the model gives no finite numbers for images of these data"):
        NewHead(data)(replace(model, weights=broken))


def test_a_hidden_layer_of_the_head_stays_and_is_what_the_new_one_reads() -> None:
    data = load("listops", limit=60)
    assert data.train.vocabulary is not None
    text = TextInput(vocabulary=data.train.vocabulary.size, length=data.train.vocabulary.length, tokens=8)
    a = CATALOGUE["text-hidden-tanh"].model_copy(update={"input": text})
    model = random_model(a)
    found = apply(NewHead(data), model)
    assert found.architecture.head.hidden == a.head.hidden
    assert found.architecture.head.classes == len(data.classes)
    assert found.weights["head"].shape == (len(data.classes), 5)
    assert all(
        torch.equal(found.weights[name], model.weights[name]) for name in ("hidden", "hidden_bias", "stem.table")
    )
