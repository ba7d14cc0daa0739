"""The heads of early exits: found in closed form on what a frozen trunk makes of training images, then trained.

Ridge regression of the classes on standardised pooled features begins (as `wb.training.head` fits a new head), with
the penalty and the scale of answers that validation images choose. From there all heads are trained on the labels
and, in equal parts, on the answers of the trunk's own head; that is kept where it lowers the loss on validation
images. With `epochs` the trunk is tuned first, with all its exits at once: the loss of exit k, counted from 1, has
the weight k, and the network as it was is the teacher of all.

Source: Ahmed et al., "ECO-M2F", 2024, https://arxiv.org/abs/2404.15244, step A: losses of exits weighted by their
depth; Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
Differs: every batch trains all exits, not those up to one that is drawn; the trunk may stay as it is.
Limits: training images are not augmented for heads on a frozen trunk, so that what it sees there is what it was
trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.compress.exits.gates import Judged
from wb.core.errors import BadData
from wb.data import Dataset, Split
from wb.data.batches import batches
from wb.data.stratify import choose
from wb.models.exits.module import PREFIX, Exiting, ExitingNetwork, ExitModule, own
from wb.models.exits.record import Exits
from wb.models.model import Model, from_network
from wb.models.network import Network
from wb.tasks.base import Task
from wb.tasks.known import task_of
from wb.training.arithmetic import computed
from wb.training.fit import Batch, Recipe, Report, fit, pick_device
from wb.training.head import BATCH, IMAGES, best_of
from wb.training.linear import decayed, matrices
from wb.training.recipes.losses import TEMPERATURE
from wb.training.recipes.mirrored import mirrored
from wb.training.refit.fits import Ridge
from wb.training.statistics import find_statistics
from wb.training.train import dropout_of, probing

STEPS = 60
DECAY = 1e-3
_LEAST = 1e-5  # of a deviation


@dataclass(frozen=True)
class Seen:
    """What exits read of some images, each (n, 2 D), what the trunk answers (n, C), and labels (n)."""

    features: tuple[Tensor, ...]
    outputs: Tensor
    labels: Tensor


@torch.no_grad()
def look(network: ExitingNetwork, split: Split) -> Seen:
    """Runs the trunk once over `split`.

    Raises:
        BadData: what it makes of the images is not finite.
    """
    device = next(network.parameters()).device
    features: list[list[Tensor]] = [[] for _ in network.exits]
    outputs, labels = [], []
    for images, answers in batches(split, BATCH, shuffle=False):
        *early, last = network.states(images.to(device))
        for k, state in enumerate(early):
            features[k].append(network.features(state).float().cpu())
        outputs.append(network.trunk.end(last).float().cpu())
        labels.append(answers)
    found = Seen(tuple(torch.cat(parts) for parts in features), torch.cat(outputs), torch.cat(labels))
    if not all(torch.isfinite(part).all() for part in (*found.features, found.outputs)):
        raise BadData(
            "the model gives no finite numbers for images of these data, so that no exit can be fitted; check both"
        )
    return found


@torch.no_grad()
def judged(network: ExitingNetwork, split: Split) -> Judged:
    """The answers of all exits and of the end for every image of `split`."""
    found = look(network, split)
    answers = [network.exit(k).cpu()(features) for k, features in enumerate(found.features)]
    return Judged((*answers, found.outputs), found.labels)


@torch.no_grad()
def right(network: Network, split: Split) -> Tensor:
    """Where a network is right: (n)."""
    device = next(network.parameters()).device
    parts = batches(split, BATCH, shuffle=False)
    return torch.cat([network(images.to(device)).cpu().argmax(1) == labels for images, labels in parts])


def with_heads(model: Model, record: Exits, data: Dataset) -> Exiting:
    """`model` with fitted heads after the blocks of the record, and gates that never leave.

    Raises:
        BadData: what the network makes of the images is not finite.
        Unsupported: it does not classify images.
    """
    network = ExitingNetwork(model.network(pick_device()), record)
    fit_heads(network, data, task_of(model.architecture))
    return Exiting(model, record, own(network))


def fit_heads(network: ExitingNetwork, data: Dataset, task: Task) -> None:
    """Fits the heads of all exits, in place. Raises as `look` does."""
    train = data.train if len(data.train) <= IMAGES else data.train.take(choose(data.train.labels, IMAGES))
    given, held = look(network, train), look(network, data.validation)
    for k in range(len(network.exits)):
        module = network.exit(k).cpu()
        with torch.no_grad():
            module.centre.copy_(given.features[k].mean(0))
            module.factor.copy_(1 / given.features[k].std(0).clamp(min=_LEAST))
        _begin(module, k, given, held, task)
        _train(module, k, given, held, task)


def _begin(module: ExitModule, k: int, given: Seen, held: Seen, task: Task) -> None:
    """The ridge, with the penalty and the scale of least loss on images held out."""
    classes = given.outputs.shape[1]
    ridge = Ridge(torch.zeros_like(module.weight), torch.zeros(classes), 0.0)
    ridge.add(_standard(module, given.features[k]), [(1.0, F.one_hot(given.labels, classes).float())])
    read = _standard(module, held.features[k])

    def fitted(penalty: float) -> tuple[Tensor, Tensor]:
        ridge.strength = penalty
        weight, bias = (part.float() for part in ridge.solve())
        return weight, bias

    penalty, scale = best_of(lambda one: F.linear(read, *fitted(one)), held.labels, task)
    _set(module, *(scale * part for part in fitted(penalty)))


def _train(module: ExitModule, k: int, given: Seen, held: Seen, task: Task) -> None:
    """Labels and the trunk's answers in equal parts; the weights before where images held out say so."""
    read, beside = _standard(module, given.features[k]), _standard(module, held.features[k])
    before = module.weight.detach().clone(), module.bias.detach().clone()
    weight, bias = (part.clone().requires_grad_() for part in before)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        answers = F.linear(read, weight, bias)
        loss = task.loss(answers, given.labels) + task.distillation(answers, given.outputs, TEMPERATURE)
        loss = loss / 2 + DECAY * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        losses = [task.loss(F.linear(beside, w, b), held.labels).item() for w, b in (before, (weight, bias))]
    if losses[1] < losses[0]:  # false where it is NaN
        _set(module, weight, bias)


def _standard(module: ExitModule, features: Tensor) -> Tensor:
    return (features - module.centre.detach()) * module.factor.detach()


def _set(module: ExitModule, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        module.weight.copy_(weight)
        module.bias.copy_(bias)


class _All(nn.Module):
    """An exiting network that gives all answers: (B, exits + 1, C)."""

    def __init__(self, network: ExitingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack(self.network.everything(images), dim=1)


def tuned(
    model: Exiting,
    data: Dataset,
    recipe: Recipe,
    teacher: Callable[[Tensor], Tensor],
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> Exiting:
    """`model` with trunk and heads trained together; the history of the trunk is as before.

    Raises:
        BadArtefact: the checkpoint is of another training.
        TrainingDiverged: the loss is NaN or infinite.
    """
    network = model.network(pick_device())
    trunk, every = network.trunk, _All(network)
    task = task_of(model.architecture)
    trunk.dropout = dropout_of(recipe)
    depth = torch.arange(1, len(network.exits) + 2).float()
    depth = depth / depth.sum()

    def backward(batch: Batch) -> float:
        network.train()
        answers = computed(every, batch.inputs, recipe)
        with torch.no_grad():
            target = computed(teacher, batch.inputs, recipe)
        parts = [
            (batch.loss(one, task, recipe.label_smoothing) + task.distillation(one, target, TEMPERATURE)) / 2
            for one in answers.unbind(1)
        ]
        loss = (torch.stack(parts) * depth.to(target)).sum()
        loss.backward()
        return loss.item()

    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    heads = {name for name in weights if name.startswith(f"{PREFIX}.") and name.endswith(".weight")}
    fit(
        weights,
        backward,
        data.train,
        recipe,
        seed=seed,
        decayed={f"trunk.{name}" for name in decayed(trunk)} | heads,
        matrices={f"trunk.{name}": outputs for name, outputs in matrices(trunk).items()},
        probe=probing(recipe, lambda: mirrored(trunk, data.validation, task, pick_device()), warm=True),
        identity=f"exits {model.record.after}, data {data.fingerprint}, model {model.trunk.fingerprint()}",
        checkpoint=checkpoint,
        report=report,
    )
    network.eval()
    find_statistics(trunk, data.train)
    return replace(model, trunk=from_network(model.architecture, trunk, model.trunk.history), weights=own(network))
