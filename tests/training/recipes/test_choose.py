"""The recipe that is chosen, and what a user may put in its place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wb.core.errors import BadOption
from wb.training.recipes.choose import BRIEF, LASTING, RDROP, Setting, chosen, gentle, lasting
from wb.training.recipes.recipe import AVERAGED, Recipe, RecipeOptions

PHOTOS = Setting(65_000, 4_500, (3, 32, 32), 60, ("bird", "cat"))
DIGITS = Setting(50_000, 1_077, (1, 8, 8), 60, tuple("0123456789"))


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        (DIGITS, "plain"),
        (DIGITS._replace(shape=(3, 16, 64)), "plain"),
        (PHOTOS, "light"),
        (PHOTOS._replace(shape=(1, 28, 28)), "light"),
        (PHOTOS._replace(parameters=300_000), "medium"),
        (PHOTOS._replace(parameters=3_000_000), "strong"),
        (PHOTOS._replace(parameters=3_000_000, epochs=BRIEF - 1), "light"),
        (PHOTOS._replace(parameters=3_000_000, shape=(1, 8, 8)), "plain"),
    ],
)
def test_size_of_network_and_data_choose(setting: Setting, name: str) -> None:
    found = chosen(RecipeOptions(), setting)
    assert found.name == name
    assert f"{setting.parameters:,} parameters" in found.text
    assert found.text.startswith(f"{name} (for ")


def test_tiny_images_have_the_recipe_that_they_always_had() -> None:
    assert chosen(RecipeOptions(), DIGITS).model_copy(update={"why": ""}) == Recipe()


@pytest.mark.parametrize(
    ("classes", "channels", "flip"),
    [
        (("bird", "cat"), 3, "try"),
        (("0", "1", "10"), 3, "off"),
        (("a", "B", "7"), 3, "off"),
        (("a", "cat"), 3, "try"),
        (("bird", "cat"), 1, "off"),
    ],
)
def test_signs_and_grey_images_do_not_flip(classes: tuple[str, ...], channels: int, flip: str) -> None:
    setting = PHOTOS._replace(classes=classes, shape=(channels, 32, 32))
    assert chosen(RecipeOptions(), setting).flip == flip
    assert chosen(RecipeOptions(flip=True), setting).flip == "on"
    assert chosen(RecipeOptions(flip=False), setting).flip == "off"


def test_features_are_not_augmented_unless_asked() -> None:
    features = PHOTOS._replace(parameters=10**6, epochs=120, shape=(1, 98, 40), features=True)
    found = chosen(RecipeOptions(), features)
    assert (found.augment, found.flip, found.erase, found.mixup, found.cutmix) == ("none", "off", 0, 0, 0)
    assert "4,500 examples of 98x40" in found.why
    assert chosen(RecipeOptions(augment="crop", erase=0.1), features).erase == 0.1
    with pytest.raises(BadOption, match="these are features"):
        chosen(RecipeOptions(augment="trivial"), features)


def test_short_trainings_are_not_mixed_and_long_ones_are_averaged() -> None:
    large = PHOTOS._replace(parameters=10**6)
    short, long = (chosen(RecipeOptions(), large._replace(epochs=epochs)) for epochs in (20, 120))
    assert (short.cutmix, short.average, short.schedule, short.batch) == (0.0, False, "cycle", 32)
    assert (long.cutmix, long.average, long.schedule, long.batch) == (0.3, True, "cosine", 64)
    assert long.steps(large.images) >= AVERAGED


def test_networks_of_convolutions_have_muon_unless_something_else_is_asked_for() -> None:
    whole = PHOTOS._replace(convolutions=True, epochs=120)
    found = chosen(RecipeOptions(), whole)
    assert (found.optimizer, found.label_smoothing, found.average) == ("muon", 0.1, True)
    assert found.batch == 2 * chosen(RecipeOptions(), whole._replace(epochs=2)).batch
    assert chosen(RecipeOptions(optimizer="adamw"), whole).optimizer == "adamw"
    assert {chosen(RecipeOptions(), one).optimizer for one in (PHOTOS, DIGITS._replace(convolutions=True))} == {"adamw"}


def test_trained_weights_are_tuned_gently_and_wider_ones_more_so() -> None:
    recipe = Recipe(learning_rate=3e-3)
    assert [round(gentle(recipe, width).learning_rate, 6) for width in (16, 64, 192)] == [1e-3, 1e-3, 333e-6]
    orthogonal = Recipe(optimizer="muon")
    assert gentle(orthogonal, 192) == orthogonal


def test_what_is_asked_for_stands() -> None:
    asked: dict[str, Any] = {"augment": "none", "colour": 0.1, "erase": 0.2, "mixup": 0.3, "cutmix": 0.4}
    options = RecipeOptions(smoothing=0.2, weight_decay=0.3, warmup=0.5, ema=False, **asked)
    found = chosen(options, PHOTOS._replace(epochs=3), learning_rate=0.7, batch=9)
    assert {name: getattr(found, name) for name in asked} == asked
    assert (found.label_smoothing, found.weight_decay, found.warmup, found.average) == (0.2, 0.3, 0.5, False)
    assert (found.learning_rate, found.batch, found.epochs) == (0.7, 9, 3)
    forced = chosen(RecipeOptions(recipe="strong"), DIGITS)
    assert (forced.name, forced.augment, forced.flip) == ("strong", "trivial", "off")


@pytest.mark.parametrize("asked", [{"augment": "trivial"}, {"colour": 0.1}])
def test_colours_of_prepared_images_are_left_alone(asked: dict[str, Any]) -> None:
    setting = PHOTOS._replace(parameters=10**6, prepared=True)
    assert chosen(RecipeOptions(), setting).augment == "crop"
    with pytest.raises(BadOption, match="choose --augment crop"):
        chosen(RecipeOptions(**asked), setting)


def test_a_recipe_checks_its_numbers_and_writes_down_what_differs() -> None:
    with pytest.raises(ValidationError, match="epochs"):
        Recipe(epochs=0)
    plain = Recipe().arguments
    assert set(plain) == {
        "epochs",
        "learning_rate",
        "batch",
        "weight_decay",
        "label_smoothing",
        "clip",
        "augment",
    }
    assert Recipe(erase=0.1).arguments == {**plain, "erase": 0.1}


TEXTS = Setting(500_000, 9_000, (), LASTING, ("a", "b"), noun="texts")


def test_what_learns_long_from_texts_runs_twice_half_as_often_unless_something_else_is_asked_for() -> None:
    def found(setting: Setting, **asked: Any) -> tuple[float, int]:
        options = RecipeOptions(**asked)
        recipe = lasting(chosen(options, setting), options)
        return recipe.rdrop, recipe.epochs

    assert found(TEXTS) == (RDROP, LASTING // 2)
    assert found(TEXTS._replace(epochs=LASTING - 1)) == (0, LASTING - 1)
    assert found(TEXTS, rdrop=0.0) == (0, LASTING)
    assert found(TEXTS, rdrop=1.0) == (1, LASTING)
    assert found(PHOTOS) == (0, PHOTOS.epochs)


def test_two_runs_need_something_that_is_dropped() -> None:
    with pytest.raises(BadOption, match="recipe light drops none; add --dropout"):
        chosen(RecipeOptions(rdrop=1.0), PHOTOS)
    assert chosen(RecipeOptions(rdrop=1.0, dropout=0.1), PHOTOS).rdrop == 1
    assert "R-Drop" in chosen(RecipeOptions(rdrop=1.0), TEXTS).text
    with pytest.raises(BadOption, match="--rdrop 1 is not for this: there is one run; leave it out"):
        RecipeOptions(rdrop=1.0).check_once("there is one run")
    with pytest.raises(ValidationError):
        RecipeOptions(rdrop=-1)
