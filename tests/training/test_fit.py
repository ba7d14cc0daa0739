"""The loop: any module trains, resumes to the same bytes with everything that a recipe has, and keeps the average."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wb.core.errors import BadArtefact, BadOption
from wb.core.records import ImageInput
from wb.data import Dataset
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.tasks.classes import CLASSES
from wb.training.recipes.recipe import Recipe
from wb.training.train import evaluating, fit_module, score, train

FULL = Recipe(
    epochs=5,
    batch=50,
    schedule="cosine",
    augment="trivial",
    flip="try",
    colour=0.2,
    erase=0.3,
    mixup=0.3,
    cutmix=0.4,
    average=True,
    resolution=True,
)


class Killed(Exception):
    """Ends a training from its report."""


def convnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )


def values(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.state_dict())


def modes(module: nn.Module) -> set[bool]:
    return {part.training for part in module.modules()}


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("after", [1, 4, 5])
def test_a_training_resumes_to_the_same_bytes(stripes: Dataset, tmp_path: Path, after: int, warm: bool) -> None:
    def kill(epoch: int, epochs: int, loss: float) -> None:
        if epoch == after:
            raise Killed

    whole, part, rest = (convnet() for _ in range(3))
    seen = fit_module(whole, stripes, FULL, task=CLASSES, seed=3, warm=warm)
    checkpoint = tmp_path / "c.pt"
    with pytest.raises(Killed):
        fit_module(part, stripes, FULL, task=CLASSES, seed=3, warm=warm, checkpoint=checkpoint, report=kill)
    again = fit_module(rest, stripes, FULL, task=CLASSES, seed=3, warm=warm, checkpoint=checkpoint)
    assert again == seen
    assert all(torch.equal(value, values(whole)[name]) for name, value in values(rest).items())


def test_a_checkpoint_is_of_one_recipe(stripes: Dataset, tmp_path: Path) -> None:
    fit_module(convnet(), stripes, Recipe(epochs=1), task=CLASSES, checkpoint=tmp_path / "c.pt")
    with pytest.raises(BadArtefact, match="belongs to a run with other settings"):
        fit_module(convnet(), stripes, Recipe(epochs=1, erase=0.1), task=CLASSES, checkpoint=tmp_path / "c.pt")


def test_small_images_are_for_networks_that_take_them(stripes: Dataset, image: ImageInput) -> None:
    recipe = Recipe(epochs=5, resolution=True)
    wrong = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 4)), nn.Linear(4, 3))  # fewer answers for smaller images
    fit_module(convnet(), stripes, recipe, task=CLASSES)
    with pytest.raises(BadOption, match="does not take images of 4x4 beside those of 8x8"):
        train(Vit(TINY, image, 3).smallest(), stripes, recipe)
    with pytest.raises(BadOption, match="does not take images of 4x4"):
        fit_module(wrong, stripes, recipe, task=CLASSES)


def test_the_average_is_what_is_left(stripes: Dataset) -> None:
    plain = Recipe(epochs=4, learning_rate=0.02)
    live, averaged = convnet(), convnet()
    fit_module(live, stripes, plain, task=CLASSES)
    fit_module(averaged, stripes, plain.model_copy(update={"average": True}), task=CLASSES)
    assert not torch.equal(values(live)["0.weight"], values(averaged)["0.weight"])
    assert not torch.equal(values(live)["1.running_var"], values(averaged)["1.running_var"])
    assert torch.equal(values(live)["1.num_batches_tracked"], values(averaged)["1.num_batches_tracked"])
    assert score(averaged, stripes.test, CLASSES, torch.device("cpu")).value > 0.8


def test_only_what_decays_shrinks(stripes: Dataset) -> None:
    found = []
    for decay in (0.0, 100.0):
        module = convnet()
        nn.init.constant_(module.get_parameter("1.weight"), 2.0)
        fit_module(module, stripes, Recipe(epochs=2, weight_decay=decay), task=CLASSES)
        found.append({name: value.norm().item() for name, value in module.named_parameters()})
    assert found[1]["0.weight"] < 0.5 * found[0]["0.weight"]
    assert found[1]["6.weight"] < 0.5 * found[0]["6.weight"]
    assert found[1]["1.weight"] > 0.9 * found[0]["1.weight"]


def test_modules_are_scored_in_eval_mode_and_stay_as_they_were(stripes: Dataset) -> None:
    module = convnet().train()
    before = {name: value.clone() for name, value in values(module).items()}
    score(module, stripes.test, CLASSES, torch.device("cpu"))
    assert modes(module) == {True}
    assert all(torch.equal(value, before[name]) for name, value in values(module).items())
    with evaluating(module):
        assert modes(module) == {False}
    with evaluating(module.eval()):
        pass
    assert modes(module) == {False}
