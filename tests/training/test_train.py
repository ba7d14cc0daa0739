from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadData
from wb.core.records import ImageInput
from wb.data import Dataset
from wb.models.model import Model
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.tasks.classes import CLASSES
from wb.training.fit import Batch, Recipe, TrainingDiverged, fit
from wb.training.train import Finetune, score, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def architecture(image: ImageInput) -> Architecture:
    return Vit(options_with(TINY, {"embed": [16], "depth": [1], "stem_width": [8]}), image, 3).largest("softmax")


@pytest.fixture(scope="module")
def trained(architecture: Architecture, stripes: Dataset) -> Model:
    return train(architecture, stripes, Recipe(epochs=12), seed=1)


def test_training_learns_and_is_written_down(trained: Model, stripes: Dataset) -> None:
    assert score(trained.network(), stripes.test, CLASSES, CPU).value > 0.9
    (step,) = trained.history
    assert (step.name, step.seed, step.arguments["epochs"], step.arguments["data"]) == ("train", 1, 12, "stripes")
    assert step.arguments["architecture"] == trained.architecture.key, "the seed alone does not say which model it is"


def test_the_same_seed_gives_the_same_weights(architecture: Architecture, stripes: Dataset) -> None:
    a, b, c = (train(architecture, stripes, Recipe(epochs=1), seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(weight, b.weights[name]) for name, weight in a.weights.items())
    assert not torch.equal(a.weights["head"], c.weights["head"])


def test_training_leaves_the_global_generator_alone(architecture: Architecture, stripes: Dataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(architecture, stripes, Recipe(epochs=1), seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_continues_where_it_stopped(architecture: Architecture, stripes: Dataset, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: int, epochs: int, loss: float) -> None:
        if epoch == 1:
            raise Killed

    recipe, checkpoint = Recipe(epochs=3), tmp_path / "c.pt"
    with pytest.raises(Killed):
        train(architecture, stripes, recipe, seed=2, checkpoint=checkpoint, report=kill)
    epochs: list[int] = []
    resumed = train(
        architecture, stripes, recipe, seed=2, checkpoint=checkpoint, report=lambda epoch, _, __: epochs.append(epoch)
    )
    assert epochs == [1, 2, 3], "how far it was is said at once"
    whole = train(architecture, stripes, recipe, seed=2)
    torch.testing.assert_close(dict(resumed.weights), dict(whole.weights))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state["weights"].update(head_bias=torch.zeros(1)), "of another network, first head_bias"),
        (lambda state: state["weights"].update(head_bias=torch.zeros(3, dtype=torch.cfloat)), "first head_bias"),
        (lambda state: state["weights"].pop("head_bias"), "is damaged"),
        (lambda state: state.pop("epoch"), "is damaged"),
        (lambda state: state.update(optimizer={}), "is damaged"),
        (lambda state: state.update(run="another"), "belongs to a run with other settings .another"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    architecture: Architecture,
    stripes: Dataset,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    recipe, checkpoint = Recipe(epochs=1), tmp_path / "c.pt"
    train(architecture, stripes, recipe, seed=2, checkpoint=checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, checkpoint)
    with pytest.raises(BadArtefact, match=words):
        train(architecture, stripes, recipe, seed=2, checkpoint=checkpoint)


def test_a_checkpoint_is_a_regular_file(architecture: Architecture, stripes: Dataset, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.pt")
    with pytest.raises(BadArtefact, match=r"c\.pt is a named pipe"):
        train(architecture, stripes, Recipe(epochs=1), seed=2, checkpoint=tmp_path / "c.pt")


def test_finetuning_is_a_pass(trained: Model, stripes: Dataset) -> None:
    """It does not change its input, adds a step, and follows its teacher."""
    before = {name: weight.clone() for name, weight in trained.weights.items()}
    teacher = trained.network()
    untrained = train(trained.architecture, stripes, Recipe(epochs=1), seed=9)
    tuned = Finetune(stripes, Recipe(epochs=6), teacher)(untrained)
    assert all(torch.equal(before[name], weight) for name, weight in trained.weights.items())
    assert [step.name for step in tuned.history] == ["train", "finetune"]
    assert tuned.history[-1].arguments["distilled"] is True
    images = torch.from_numpy(stripes.test.pixels())
    with torch.no_grad():
        distance = [CLASSES.distillation(model.network()(images), teacher(images)) for model in (untrained, tuned)]
    assert distance[1] < 0.9 * distance[0]


def test_distillation_is_least_where_the_student_is_the_teacher() -> None:
    target = torch.randn(5, 4)
    same = CLASSES.distillation(target, target, 2.0)
    assert all(CLASSES.distillation(target + 0.5 * torch.randn(5, 4), target, 2.0) > same for _ in range(10))
    torch.testing.assert_close(
        CLASSES.distillation(target, target, 1.0), -(target.softmax(1) * target.log_softmax(1)).sum(1).mean()
    )


def test_a_loss_that_is_no_number_stops_the_training(stripes: Dataset) -> None:
    weight = torch.nn.Parameter(torch.ones(3))

    def backward(batch: Batch) -> float:
        F.mse_loss(weight, torch.zeros(3)).backward()
        return float("nan") if batch.step == 3 else 1.0

    with pytest.raises(TrainingDiverged, match="the loss became nan in epoch 1; check the data"):
        fit({"w": weight}, backward, stripes.train, Recipe(epochs=2), seed=0, decayed=())


def test_data_that_do_not_fit_are_named(stripes: Dataset, image: ImageInput) -> None:
    other = Vit(TINY, image, 7).smallest()
    with pytest.raises(BadData, match="have 3 classes, and the model has 7"):
        train(other, stripes, Recipe(epochs=1))
    larger = Vit(TINY, image.model_copy(update={"height": 16}), 3).smallest()
    with pytest.raises(BadData, match="have images of 1x8x8; the model takes 1x16x8"):
        train(larger, stripes, Recipe(epochs=1))
