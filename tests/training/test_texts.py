"""Training on texts: the recipe, dropout that is there in training alone, and scores that do not depend on batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.catalogue import CATALOGUE
from tests.networks import random_model
from wb.core.errors import BadOption
from wb.data.texts.split import Texts
from wb.data.texts.tables import texts_of
from wb.data.texts.vocabulary import WORDS, vocabulary_of
from wb.models.network import Dropout
from wb.tasks.classes import CLASSES
from wb.training.recipes.choose import Setting, chosen
from wb.training.recipes.recipe import Recipe, RecipeOptions
from wb.training.train import score

SETTING = Setting(500_000, 9_000, (), 16, noun="texts")
LINES = [" ".join("abcdefg"[(i + k) % 7] for k in range(i % 6 + 1)) for i in range(40)]


def test_texts_have_a_recipe_of_their_own_without_anything_of_images() -> None:
    recipe = chosen(RecipeOptions(), SETTING)
    assert recipe.name == "text"
    assert (recipe.flip, recipe.augment, recipe.erase, recipe.mixup, recipe.cutmix) == ("off", "none", 0, 0, 0)
    assert recipe.merge_dropout > 0
    assert "9,000 texts" in recipe.text
    assert "images" not in recipe.text
    assert chosen(RecipeOptions(merge_dropout=0.0, dropout=0.2), SETTING).dropout == 0.2
    for options, match in (
        (RecipeOptions(recipe="light"), "--recipe light is not for texts"),
        (RecipeOptions(erase=0.1), "--erase is for images"),
    ):
        with pytest.raises(BadOption, match=match):
            chosen(options, SETTING)
    with pytest.raises(BadOption, match="--recipe text is not for images"):
        chosen(RecipeOptions(recipe="text"), Setting(1, 9, (1, 8, 8), 2))
    assert Recipe().arguments.keys() & {"dropout", "second"} == set(), "histories of images stay as they were"


def test_dropout_is_of_trainings_alone() -> None:
    network = random_model(CATALOGUE["text-softmax"]).network()
    ids = torch.tensor([[1, 2, 3], [4, 5, -1]])
    expected = network(ids)
    for dropout in (Dropout(embedding=0.5), Dropout(inside=0.5), Dropout(head=0.5)):
        network.dropout = dropout
        assert torch.equal(network(ids), expected)
        assert not torch.equal(network.train()(ids), expected)
        network.eval()


def test_a_score_does_not_depend_on_how_texts_are_batched() -> None:
    vocabulary = vocabulary_of(LINES, WORDS)
    split: Texts = texts_of(LINES, [i % 3 for i in range(40)], vocabulary)
    network = random_model(CATALOGUE["text-softmax"]).network()
    assert vocabulary.size <= network.get_parameter("stem.table").shape[0]
    assert vocabulary.length >= max(map(len, LINES)) // 2
    answers = [int(network(torch.from_numpy(split.inputs(np.array([i])))).argmax()) for i in range(40)]
    right = float(np.mean(np.array(answers) == split.labels))
    for batch in (1, 7, 40):
        assert score(network, split, CLASSES, torch.device("cpu"), batch).value == right
