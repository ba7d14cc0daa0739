"""Estimates of training time on this machine, from a few timed steps; nothing is written."""

from __future__ import annotations

import time
from statistics import median

import torch

from wb.core.architecture import Architecture
from wb.core.commands.plan import Planned
from wb.data import Dataset
from wb.data.batches import typical
from wb.models.counting import count_macs, count_parameters
from wb.models.network import Network, fresh
from wb.tasks.known import task_of
from wb.training.arithmetic import quick_products
from wb.training.augment.policy import augmented
from wb.training.fit import Batch, Recipe, pick_device
from wb.training.recipes.losses import distilled
from wb.training.train import keep_still

STEPS = 5  # timed steps, after one for warming up


def data_stage(data: Dataset, seconds: float) -> Planned:
    """The stage of reading data, which took `seconds`: number and size of images, and their classes."""
    counts = " + ".join(f"{len(split):,}" for split in (data.train, data.validation, data.test))
    size = ", ".join(spec.text for spec in data.specs())
    shown = ", ".join(data.classes[:10]) + (", …" if len(data.classes) > 10 else "")
    classes = f" in {len(data.classes)} classes" if data.classes else ""
    text = f"{data.spec}: {counts} {data.train.noun} for training, validation, test, of {size}{classes}"
    return Planned("data", f"{text} ({shown})" if shown else text, seconds)


def network_stage(architecture: Architecture, name: str) -> Planned:
    """The line of the plan that describes a network; it takes no time."""
    blocks = [block for _, _, block in architecture.blocks() if not block.off]
    mixers = ", ".join(dict.fromkeys(block.mixer.kind for block in blocks if block.mixer is not None)) or "no mixers"
    cost = f"{count_parameters(architecture).text()} parameters, {count_macs(architecture).text()} multiply-accumulates"
    return Planned("network", f"{name}: {len(blocks)} blocks ({mixers}), {cost}", 0.0)


def training_stage(
    name: str, architecture: Architecture, data: Dataset, recipe: Recipe, *, teacher: bool, freeze: bool = False
) -> Planned:
    """The stage of a training with that recipe, with labels alone or also a teacher of the same architecture.

    With `freeze` the head alone is trained.
    """
    steps = recipe.steps(len(data.train))
    how = ", with a teacher" if teacher else ""
    what = f"{recipe.epochs} epochs of {steps // recipe.epochs} steps on {pick_device()}{how}; recipe {recipe.text}"
    what += "; the head alone" if freeze else ""
    return Planned(name, what, steps * step_seconds(architecture, data, recipe, teacher=teacher, freeze=freeze))


@quick_products()  # as `fit` does
def step_seconds(
    architecture: Architecture, data: Dataset, recipe: Recipe, *, teacher: bool = False, freeze: bool = False
) -> float:
    """Seconds of one training step of `recipe`: the median of a few steps on a freshly initialised network."""
    network = _fresh(architecture).train()
    if freeze:
        keep_still(network, network.answer.axes)
    taught = _fresh(architecture).eval() if teacher else None
    backward = distilled(network, taught, recipe, task_of(architecture))
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    images, labels = typical(data.train, recipe.batch)
    given = Batch(images.to(pick_device()), labels.to(pick_device()), 0, STEPS)
    generator = torch.Generator().manual_seed(0)
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        augmented(images, labels, recipe, generator)  # as `fit` does
        backward(given)
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def image_seconds(architecture: Architecture, data: Dataset, batch: int = 128) -> float:
    """Seconds of inference in torch for one image."""
    network = _fresh(architecture).eval()
    images, _ = typical(data.train, batch)
    images = images.to(pick_device())
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + STEPS):
            start = time.perf_counter()
            network(images).sum().item()
            seconds.append(time.perf_counter() - start)
    return median(seconds[1:]) / len(images)


def _fresh(architecture: Architecture) -> Network:
    return fresh(architecture).to(pick_device())
