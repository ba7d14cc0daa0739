"""Training and fine-tuning of one network, and its accuracy in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.errors import BadData
from wb.core.readings import Reading
from wb.data import Dataset, Split
from wb.data.batches import batches
from wb.models.model import Model, Step, from_network
from wb.models.network import Network, build, describe
from wb.tasks.base import Grades, Task
from wb.tasks.known import task_of
from wb.tasks.names import matched
from wb.training.fit import Backward, Batch, Recipe, Report, fit, pick_device
from wb.training.statistics import find_statistics

TEMPERATURE = 2.0


def train(
    architecture: Architecture,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> Model:
    """A model of `architecture`, trained from scratch on the training split.

    Raises:
        BadData: the data have another shape or number of classes.
        TrainingDiverged: the loss is NaN or infinite.
    """
    check_fits(architecture, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(architecture)
        network.reset()
    network.to(pick_device()).train()
    _fit(network, data, recipe, None, seed, checkpoint, report)
    find_statistics(network, data.train)
    arguments = {**data.origin, "architecture": architecture.key, **asdict(recipe)}
    step = Step(name="train", arguments=arguments, seed=seed, version=__version__)
    return from_network(architecture, network, (step,))


@dataclass(frozen=True)
class Finetune:
    """The fine-tuning pass: trains a model further on the labels and, given a `teacher`, on the teacher's logits.

    With `checkpoint` it continues after an interruption, as `wb.training.fit.fit` does.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, with temperature 2 and equal weights.
    """

    data: Dataset
    recipe: Recipe
    teacher: Callable[[Tensor], Tensor] | None = None
    seed: int = 0
    report: Report | None = None
    checkpoint: Path | None = None

    def __call__(self, model: Model, /) -> Model:
        check_fits(model.architecture, self.data)
        network = model.network(pick_device()).train()
        _fit(network, self.data, self.recipe, self.teacher, self.seed, self.checkpoint, self.report)
        find_statistics(network, self.data.train)
        return from_network(model.architecture, network, (*model.history, self.step))

    @property
    def step(self) -> Step:
        """The history step of the pass."""
        arguments = {**self.data.origin, "distilled": self.teacher is not None, **asdict(self.recipe)}
        return Step(name="finetune", arguments=arguments, seed=self.seed, version=__version__)


def _fit(
    network: Network,
    data: Dataset,
    recipe: Recipe,
    teacher: Callable[[Tensor], Tensor] | None,
    seed: int,
    checkpoint: Path | None,
    report: Report | None,
) -> None:
    weights: dict[str, nn.Parameter] = dict(network.named_parameters())
    architecture = describe(network)
    backward = distilled(network, teacher, recipe, task_of(architecture))
    identity = f"data {data.fingerprint}, architecture {architecture.key}"
    fit(weights, backward, data.train, recipe, seed=seed, identity=identity, checkpoint=checkpoint, report=report)


def distilled(
    network: Callable[[Tensor], Tensor], teacher: Callable[[Tensor], Tensor] | None, recipe: Recipe, task: Task
) -> Backward:
    """The backward function for `wb.training.fit.fit`: the task's loss or, given a `teacher`, its mean with distillation.

    Network and teacher map a batch (B, ...) to outputs of `task`.
    """

    def backward(batch: Batch) -> float:
        outputs = network(batch.images)
        loss = task.loss(outputs, batch.labels, recipe.label_smoothing)
        if teacher is not None:
            with torch.no_grad():
                target = teacher(batch.images)
            loss = (loss + task.distillation(outputs, target, TEMPERATURE)) / 2
        loss.backward()
        return loss.item()

    return backward


def score(
    network: Callable[[Tensor], Tensor], split: Split, task: Task, device: torch.device, batch: int = 256
) -> Reading:
    """The task's metric in torch; reports use `wb.export.score`, which reads it from the exported file."""
    each = []
    with torch.inference_mode():
        for images, labels in batches(split, batch, shuffle=False):
            outputs = network(images.to(device)).cpu()
            each.append(task.grade(outputs.numpy(), labels.numpy()).each)
    return task.reading(Grades(np.concatenate(each), split.labels), f"torch {device}")


def fitted(
    data: Dataset, architecture: Architecture, model: str, *, by_index: bool = False
) -> tuple[Dataset, list[str]]:
    """`data` with classes in the order of `architecture`, and notes for the user; `model` names the model in messages.

    Raises:
        BadData: the images have another size, or the classes are others (`wb.tasks.names.matched`).
    """
    _check_specs(architecture, data)
    return matched(data, architecture.head.labels, architecture.head.classes, model, by_index=by_index)


def check_fits(architecture: Architecture, data: Dataset) -> None:
    """Raises `BadData` unless `data` has the arrays that `architecture` takes, and the labels of its task."""
    _check_specs(architecture, data)
    task_of(architecture).check(architecture, data)


def _check_specs(architecture: Architecture, data: Dataset) -> None:
    if data.specs() != architecture.input.specs():
        given, taken = (", ".join(spec.text for spec in specs) for specs in (data.specs(), architecture.input.specs()))
        raise BadData(
            f"data {data.spec!r} have images of {given}; the model takes {taken}; name other data with --data"
        )
