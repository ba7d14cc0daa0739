"""Training and fine-tuning of one network, and its accuracy in torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.data import Dataset, Split
from wb.data.batches import batches
from wb.models.files.header import TOKENIZER
from wb.models.model import Model, Step, from_network
from wb.models.network import Dropout, Network, fresh
from wb.scale.ring.channel import Channel
from wb.scale.ring.order import order
from wb.scale.team import ALONE, Team
from wb.tasks.base import Grades, Task
from wb.tasks.known import task_of
from wb.tasks.suited import check_fits
from wb.training.fit import Batch, Probe, Recipe, Report, fit, pick_device
from wb.training.linear import decayed, matrices
from wb.training.recipes.layered import layered, share
from wb.training.recipes.losses import distilled, self_distilled
from wb.training.recipes.mirrored import Mirrored, mirrored
from wb.training.recipes.resizable import check_sizes
from wb.training.shared.spreading import spread
from wb.training.statistics import find_statistics

Keep = Callable[[nn.Module, int], None]  # a network in training, and how many epochs it has had


def train(
    architecture: Architecture,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Report | None = None,
    teacher: Callable[[Tensor], Tensor] | None = None,
    keep: Keep | None = None,
    team: Team = ALONE,
) -> Model:
    """A model of `architecture`, trained from scratch on the training split; `teacher`, `keep` and `team` as in `fit_module`.

    Raises:
        BadData: the data have another shape or number of classes.
        TrainingDiverged: the loss is NaN or infinite.
    """
    check_fits(architecture, data)
    network = fresh(architecture, seed)
    found = fit_module(
        network.to(pick_device()),
        data,
        recipe,
        task=task_of(architecture),
        seed=seed,
        teacher=teacher,
        identity=_identity(data, architecture),
        checkpoint=checkpoint,
        report=report,
        keep=keep,
        team=team,
    )
    arguments = {**data.origin, "architecture": architecture.key, **recipe.arguments, **_seen(found)}
    arguments |= written_with(data.train)
    step = Step(name="train", arguments=arguments, seed=seed, version=__version__)
    return from_network(architecture, network, (step,))


@dataclass(frozen=True)
class Finetune:
    """The fine-tuning pass: trains a model further on the labels and, given a `teacher`, on the teacher's logits.

    With `checkpoint` it continues after an interruption, as `wb.training.fit.fit` does; `identity` is what the state belongs to,
    beside data and architecture. With `freeze` only the head is trained.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, with temperature 2 and equal weights.
    """

    data: Dataset
    recipe: Recipe
    teacher: Callable[[Tensor], Tensor] | None = None
    seed: int = 0
    report: Report | None = None
    checkpoint: Path | None = None
    identity: str = ""
    freeze: bool = False
    keep: Keep | None = None
    team: Team = ALONE

    def __call__(self, model: Model, /) -> Model:
        check_fits(model.architecture, self.data)
        network = model.network(pick_device())
        fit_module(
            network,
            self.data,
            self.recipe,
            task=task_of(model.architecture),
            seed=self.seed,
            teacher=self.teacher,
            identity=_identity(self.data, model.architecture) + self.identity,
            checkpoint=self.checkpoint,
            report=self.report,
            warm=True,
            only=network.answer.axes.keys() if self.freeze else None,
            keep=self.keep,
            team=self.team,
        )
        return from_network(model.architecture, network, (*model.history, self.step))

    @property
    def step(self) -> Step:
        """The history step of the pass."""
        arguments = {**self.data.origin, "distilled": self.teacher is not None, **self.recipe.arguments}
        arguments |= {"freeze": True} if self.freeze else {}
        return Step(name="finetune", arguments=arguments, seed=self.seed, version=__version__)


def fit_module(
    module: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    task: Task,
    seed: int = 0,
    teacher: Callable[[Tensor], Tensor] | None = None,
    identity: str = "",
    checkpoint: Path | None = None,
    report: Report | None = None,
    warm: bool = False,
    only: Collection[str] | None = None,
    keep: Keep | None = None,
    team: Team = ALONE,
) -> Mirrored | None:
    """Trains any network in place, as `fit` does, from the labels and, given a `teacher`, half from its outputs.

    Batch norms of torch update their statistics, and stay in eval mode on a batch of one image, which has no variance; those
    of ours are found at the end (`wb.training.statistics`). The network ends in eval mode. A `warm` one was trained before, so
    that it is asked about mirrored images at once. With `only`, names of parameters, all others and the statistics stay as
    they are. `keep` is given the network before the first epoch and after every one, and does not change it. The processes of a
    `team` call this together; where they share tokens, network and teacher are ours (`spread`).

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, with temperature 2 and equal weights.
    """
    step = distilled(module, teacher, recipe, task)
    if recipe.paths and isinstance(module, Network):
        step = self_distilled(module, teacher, recipe, task)
    kept = set(module.state_dict())

    def backward(batch: Batch) -> float:
        # ours has norms that take one image
        module.train(only is None and (isinstance(module, Network) or len(batch.labels) > 1))
        with layered(module, share(recipe, batch.step, batch.steps)):
            return step(batch)

    def look() -> Mirrored:
        if only is None:
            find_statistics(module, data.train)
        with evaluating(module):
            return mirrored(module, data.validation, task, device)

    if isinstance(module, Network):
        module.dropout = dropout_of(recipe)
    weights = dict(module.named_parameters())
    device = next(iter(weights.values())).device
    if only is not None:
        weights = {name: weight for name, weight in weights.items() if name in only}
        keep_still(module, only)
    with evaluating(module):
        check_sizes(module, data, recipe, device)
    keep = keep if team.leads else None  # of equal networks one is enough
    _begin_keeping(keep, module, checkpoint)
    with spread(team, module, teacher):
        found = fit(
            weights,
            backward,
            data.train,
            recipe,
            seed=seed,
            decayed=decayed(module),
            matrices={name: outputs for name, outputs in matrices(module).items() if name in weights},
            statistics={name: value for name, value in module.named_buffers() if name in kept},
            probe=probing(recipe, look, warm=warm),
            identity=identity,
            checkpoint=checkpoint,
            report=report if keep is None else partial(_keeping, keep, module, report),
            team=team,
        )
    module.eval()
    if only is None:
        find_statistics(module, data.train)
    return found


def _begin_keeping(keep: Keep | None, module: nn.Module, checkpoint: Path | None) -> None:
    """Keeps the network before its first epoch, unless the training was begun before."""
    if keep is not None and (checkpoint is None or not checkpoint.exists()):
        keep(module, 0)


def _keeping(keep: Keep, module: nn.Module, report: Report | None, epoch: int, of: int, loss: float) -> None:
    """Reports an epoch and keeps its network."""
    keep(module, epoch)
    if report is not None:
        report(epoch, of, loss)


def dropout_of(recipe: Recipe) -> Dropout:
    """The dropout that the recipe asks for."""
    return Dropout(recipe.embedding_dropout, recipe.dropout, recipe.head_dropout)


def keep_still(module: nn.Module, only: Collection[str]) -> None:
    """Leaves gradients to the parameters named in `only`, and to no others."""
    for name, weight in module.named_parameters():
        weight.requires_grad_(name in only)


def probing(recipe: Recipe, look: Callable[[], Mirrored], *, warm: bool) -> Probe | None:
    """When to look at mirrored images: at once with a `warm` network, else after a tenth of the epochs, if that is any."""
    at = 0 if warm else round(recipe.epochs / 10)
    return Probe(at, look) if recipe.flip != "off" and (warm or at) else None


@contextmanager
def evaluating(network: object) -> Iterator[None]:
    """Modules are in eval mode within; afterwards they are as they were."""
    if not isinstance(network, nn.Module):
        yield
        return
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)


def score(
    network: Callable[[Tensor], Tensor],
    split: Split,
    task: Task,
    device: torch.device,
    batch: int = 256,
    team: Team = ALONE,
) -> Reading:
    """The task's metric in torch; reports use `wb.export.score`, which reads it from the exported file.

    Processes of a `team` that share tokens grade those that they have, each as many of every example.
    """
    each, labels = [], []
    with torch.inference_mode(), evaluating(network), spread(team, network):
        for part in map(split.take, split.together(batch)):
            for inputs, answers in batches(part, batch, shuffle=False):
                own = order(inputs.shape[1], team.place, team.sequence) if team.sequence > 1 else slice(None)
                seen = (inputs[:, own], answers[:, own]) if team.sequence > 1 else (inputs, answers)
                outputs = network(seen[0].to(device)).cpu()
                each.append(task.grade(outputs.numpy(), seen[1].numpy()).each)
                labels.append(answers.numpy())
        grades = np.concatenate(each)
        if team.sequence > 1:
            grades = Channel.of(team).added_up(torch.from_numpy(grades)).numpy() / team.sequence
    return task.reading(Grades(grades, np.concatenate(labels)), f"torch {device}")


def _identity(data: Dataset, architecture: Architecture) -> str:
    return f"data {data.fingerprint}, architecture {architecture.key}"


def _seen(found: Mirrored | None) -> dict[str, Any]:
    return {} if found is None else {"flips": found.keeps, "mirrored": found.text}


def written_with(split: Split) -> dict[str, str]:
    """What a history step records of how texts are written; nothing for images."""
    return {} if split.vocabulary is None else {TOKENIZER: split.vocabulary.text}
