"""The plan of `wb prune depgraph --dry-run`: the stages of the pruning, with the estimated time of each."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import nn

from wb.compress.depgraph.config import DepgraphConfig
from wb.compress.depgraph.graph import measure_size
from wb.compress.depgraph.latency import TRIES
from wb.core.commands.plan import Planned
from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading, scaled
from wb.core.statistics.verdict import judge
from wb.data import Dataset
from wb.data.batches import batches
from wb.export.timing.estimate import times_of
from wb.hardware.device import Device
from wb.jobs.frame.tune import tuning
from wb.tasks.classes import CLASSES
from wb.training.fit import pick_device

STEPS = 5  # timed training steps, after one that is not timed


def estimate(
    module: nn.Module,
    name: str,
    data: Dataset,
    write: Callable[[nn.Module, Path], None],
    limits: Sequence[Limit],
    device: Device,
    config: DepgraphConfig,
) -> list[Planned]:
    """The planned stages; `write` exports a module to a temporary file.

    Raises:
        BadOption: a budget on MACs or parameters is met already.
    """
    example = torch.from_numpy(data.validation.pixels(slice(0, 2))).to(next(module.parameters()).device)
    size = measure_size(module, example)._asdict()
    _check_unmet(limits, size)
    times = times_of(lambda path: write(module, path), data, device)
    exported, image, timing = times.export, times.image, times.timing
    timed = any(limit.metric.name == "latency" for limit in limits)
    tries = TRIES if timed else 1
    counts = ", ".join(f"{scaled(size[m], METRICS[m].unit)} {METRICS[m].title}" for m in ("params", "macs"))
    images = min(config.calib, len(data.train))
    scoring = images / config.batch * _step(module, data, config.batch, train=False, distill=False)
    what = f"{config.rounds} rounds of scoring on {images} training images and cutting, until "
    what += " and ".join(limit.text() for limit in limits) + (f"; at most {tries} times" if timed else "")
    each = config.rounds * scoring + (exported + 2 * timing if timed else 0.0)
    found = [Planned("network", f"{name}: {counts}", 0.0), Planned("pruning", what, tries * each)]
    if config.finetune:
        recipe = tuning(config, size["params"], data)
        steps = recipe.steps(len(data.train))
        what = f"{recipe.epochs} epochs of {steps // recipe.epochs} steps on {pick_device()}"
        step = _step(module, data, recipe.batch, train=True, distill=config.distill)
        what += (", with a teacher" if config.distill else "") + f"; recipe {recipe.text}"
        found.append(Planned("fine-tuning", what, steps * step))
    stages = 3 if config.finetune else 2
    seconds = stages * (exported + len(data.validation) * image) + 2 * (len(data.test) * image + timing)
    return [*found, Planned("readings", f"{stages} graphs exported and scored, first and last timed together", seconds)]


def _check_unmet(limits: Sequence[Limit], size: dict[str, float]) -> None:
    for limit in (limit for limit in limits if limit.metric.name in size):
        dense = Reading(value=size[limit.metric.name], unit=limit.metric.unit, how="counted")
        if judge(limit, dense, dense).over <= 0:
            raise BadOption(f"the budget {limit.text()} is met already ({dense.text()}); give a smaller one")


def _step(module: nn.Module, data: Dataset, batch: int, *, train: bool, distill: bool) -> float:
    """Seconds of a forward and backward pass of one mini-batch on a copy; with `train`, including the optimizer's step."""
    work = copy.deepcopy(module).train(train).requires_grad_(True)
    optimizer = torch.optim.AdamW(work.parameters(), lr=1e-4)
    where = next(work.parameters()).device
    images, labels = (tensor.to(where) for tensor in next(batches(data.train, batch, shuffle=False)))
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        if distill:
            with torch.no_grad():
                module(images)
        loss = CLASSES.loss(work(images), labels)
        loss.backward()
        if train:
            optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])
