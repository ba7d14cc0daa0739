"""Training and fine-tuning one network, and its accuracy in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.errors import BadData
from wb.core.readings import Reading
from wb.core.statistics.scores import score
from wb.data import Dataset, Split
from wb.data.batches import batches
from wb.models.model import Model, Step, from_network
from wb.models.network import Network, build, describe
from wb.training.classes import check_names, matched
from wb.training.fit import Backward, Batch, Recipe, Report, fit, pick_device

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
    arguments = {**data.origin, "architecture": architecture.key, **asdict(recipe)}
    step = Step(name="train", arguments=arguments, seed=seed, version=__version__)
    return from_network(architecture, network, (step,))


@dataclass(frozen=True)
class Finetune:
    """A pass: trains a model a little further, with the labels and, given a `teacher`, with its logits.

    With `checkpoint` it continues what was interrupted, as `wb.training.fit.fit` does.

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
        return from_network(model.architecture, network, (*model.history, self.step))

    @property
    def step(self) -> Step:
        """What the pass adds to a model's history."""
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
    backward = distilled(network, teacher, recipe)
    identity = f"data {data.fingerprint}, architecture {describe(network).key}"
    fit(weights, backward, data.train, recipe, seed=seed, identity=identity, checkpoint=checkpoint, report=report)


def distilled(
    network: Callable[[Tensor], Tensor], teacher: Callable[[Tensor], Tensor] | None, recipe: Recipe
) -> Backward:
    """What `wb.training.fit.fit` does with a batch: from the labels and, given a `teacher`, half from its logits.

    Both take images (B, channels, height, width) and give logits (B, classes).
    """

    def backward(batch: Batch) -> float:
        logits = network(batch.images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=recipe.label_smoothing)
        if teacher is not None:
            with torch.no_grad():
                target = teacher(batch.images)
            loss = (loss + distillation(logits, target, TEMPERATURE)) / 2
        loss.backward()
        return loss.item()

    return backward


def distillation(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross entropy of `logits` (B, C) against the softened `target` logits (B, C), times temperature squared."""
    soft = (target / temperature).softmax(dim=-1)
    return F.cross_entropy(logits / temperature, soft) * temperature**2


def accuracy(network: Callable[[Tensor], Tensor], split: Split, device: torch.device, batch: int = 256) -> Reading:
    """Top-1 accuracy in torch; `wb.export.score` reads it from the exported file, which is what is reported."""
    correct = 0
    with torch.inference_mode():
        for images, labels in batches(split, batch, shuffle=False):
            correct += int((network(images.to(device)).argmax(dim=1).cpu() == labels).sum())
    return score(correct, split.labels.tolist(), f"torch {device}")


def fitted(
    data: Dataset, architecture: Architecture, model: str, *, by_index: bool = False
) -> tuple[Dataset, list[str]]:
    """`data` in the order of the classes of `architecture`, that of `model`, and what is to be known of that.

    Raises:
        BadData: the images have another size, or the classes are others (`wb.training.classes.matched`).
    """
    a = architecture.input
    if (data.channels, data.height, data.width) != (a.channels, a.height, a.width):
        check_fits(architecture, data)
    return matched(data, architecture.labels, architecture.classes, model, by_index=by_index)


def check_fits(architecture: Architecture, data: Dataset) -> None:
    """Raises `BadData` unless `data` has the images that `architecture` takes and its classes, in its order.

    `wb.training.classes.matched` puts those of data in the order of a model's.
    """
    a = architecture.input
    given = (data.channels, data.height, data.width, len(data.classes))
    expected = (a.channels, a.height, a.width, architecture.classes)
    if given != expected:
        raise BadData(
            f"data {data.spec!r} have images of {'x'.join(map(str, given[:3]))} in {given[3]} classes; the model takes "
            f"{'x'.join(map(str, expected[:3]))} in {expected[3]}; name other data with --data"
        )
    check_names(architecture.labels, data)
