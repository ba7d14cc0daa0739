"""A new head for other classes: fitted in closed form to what the network makes of training images, the rest kept.

Ridge regression of the classes, as ones and zeros, on what the head reads; its answers are then scaled. Penalty and scale are
those with the least loss on validation images. Fine-tuning begins at a head that knows the classes, so that the first steps
do not spoil the network for a head that knows nothing.

Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (LP-FT), 2022,
https://arxiv.org/abs/2202.10054, which fits the head before the rest is tuned.
Differs: the head is found in closed form, without epochs of its own.
Limits: classes as labels; weights of one or two bits are drawn at random, for rounding would undo the fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wb import __version__
from wb.core.errors import BadData
from wb.core.precision import TRAINED
from wb.data import Dataset, Split
from wb.data.batches import batches
from wb.data.stratify import choose
from wb.models.model import Model, Step, from_network
from wb.models.network import Network, build
from wb.tasks.base import Task
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.refit.fits import Ridge
from wb.training.refit.trace import read_by_head
from wb.training.train import score

IMAGES = 8_192  # the most training images that a head is fitted to, and validation images that judge it
BATCH = 256
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
SCALES = tuple(2.0 ** (power / 2) for power in range(13))  # of answers between 0 and 1
# The share of the best scale to begin Muon with, whose steps are as large where gradients are small: two points more after tuning
# (animals, then 400 photographs of signs; a head drawn at random comes as far as one of the whole scale). AdamW needs no less.
MUON = 1 / 4


class Found(NamedTuple):
    """What a head was found with: the strength of the ridge and the scale of its answers."""

    penalty: float
    scale: float


@dataclass(frozen=True)
class NewHead:
    """The pass: the same network with a head for the classes of `data`, in their order. Images must fit.

    `share` of the scale that fits best is what answers get: less than all of it is less sure of itself.
    """

    data: Dataset
    seed: int = 0
    share: float = 1.0

    def __call__(self, model: Model, /) -> Model:
        classes = self.data.classes
        architecture = model.architecture.with_classes(classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = build(architecture)
            network.answer.reset(network)
        own = {name for pair in network.answer.answers.items() for name in pair}
        network.load_state_dict({name: w for name, w in model.weights.items() if name not in own}, strict=False)
        network.to(pick_device()).eval()
        found = None if architecture.head.precision in TRAINED else fit_head(network, self.data, self.share)
        arguments = {**self.data.origin, "classes": len(classes), "before": model.architecture.head.classes}
        arguments |= {"parent": model.fingerprint(), **({} if found is None else found._asdict())}
        readings = {"validation": score(network, self.data.validation, task_of(architecture), pick_device())}
        step = Step(name="head", arguments=arguments, readings=readings, seed=self.seed, version=__version__)
        return from_network(architecture, network, (*model.history, step))


@torch.no_grad()
def fit_head(network: Network, data: Dataset, share: float = 1.0) -> Found:
    """Fits the head of `network`, which is in eval mode, in place; gives its answers a `share` of the best scale.

    Raises:
        BadData: what the head reads is not finite.
    """
    answer, classes = network.answer, len(data.classes)
    fits = {
        name: Ridge(torch.zeros(getattr(network, name).shape), torch.zeros(classes), 0.0) for name in answer.answers
    }
    for seen, labels in _seen(network, data.train):
        targets = F.one_hot(labels, classes).float()
        for name, fit in fits.items():
            fit.add(answer.before(network, seen.to(network.head), name).cpu(), [(1.0, targets)])
    held = list(_seen(network, data.validation))
    labels = torch.cat([labels for _, labels in held])

    def outputs(penalty: float) -> Tensor:
        _write(network, fits, penalty)
        return torch.cat([answer.outputs(network, seen.to(network.head)) for seen, _ in held]).cpu()

    best = best_of(outputs, labels, task_of(network.architecture))
    best = best._replace(scale=share * best.scale)
    _write(network, fits, best.penalty, best.scale)
    return best


def best_of(outputs: Callable[[float], Tensor], labels: Tensor, task: Task) -> Found:
    """The strength of a ridge and the scale of its `outputs` (n, classes) with the least loss on held-out `labels` (n)."""
    best, least = Found(PENALTIES[0], SCALES[0]), math.inf
    for penalty in PENALTIES:
        given = outputs(penalty)
        for scale in SCALES:
            loss = task.loss(given * scale, labels).item()
            if loss < least:
                best, least = Found(penalty, scale), loss
    return best


def _write(network: Network, fits: dict[str, Ridge], penalty: float, scale: float = 1.0) -> None:
    for name, fit in fits.items():
        fit.strength = penalty
        weight, bias = fit.solve()
        getattr(network, name).copy_(weight * scale)
        getattr(network, str(network.answer.answers[name])).copy_(bias * scale)


def _seen(network: Network, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """What the head reads of at most `IMAGES` images, on the CPU, with their labels, in batches."""
    some = split if len(split) <= IMAGES else split.take(choose(split.labels, IMAGES))
    for images, labels in batches(some, BATCH, shuffle=False):
        state = network.begin(images.to(next(network.parameters()).device))
        for at in network.walk():
            state = at(network.enter(state, at.stage))
        seen = read_by_head(network, state).cpu()
        if not torch.isfinite(seen).all():
            raise BadData(
                "the model gives no finite numbers for images of these data, so that no head can be fitted; check both"
            )
        yield seen, labels
