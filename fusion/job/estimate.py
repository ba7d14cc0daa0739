"""The plan of `wb fuse` (--dry-run): the stages of a fusion and about how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from wb.core.commands.plan import Planned
from wb.data import Dataset
from wb.export.timing.estimate import reading_times
from wb.foreign.reading import load
from wb.fusion.curve import SHARES, point
from wb.fusion.fuse import Fused
from wb.fusion.job.job import FuseJob, calibration
from wb.jobs.frame.tune import tuning
from wb.training.estimate import image_seconds, network_stage, step_seconds
from wb.training.fit import pick_device

FEW = 32  # images of the trial fusion; a second one with twice as many gives the time per image
T = TypeVar("T")


def estimate(job: FuseJob) -> list[Planned]:
    """The stages, estimated from a fusion with few images and some timed steps; nothing is kept or written.

    Raises as `FuseJob` does if the models cannot be fused.
    """
    parents = job.record.parents
    found = [network_stage(parent.architecture, parent.name) for parent in parents]
    fusing, fusion = _fusing(job)
    found.append(fusing)
    if job.data is None:
        return found
    if len(parents) > 1:
        found.append(_curves(job, fusion, job.data))
    if job.config.finetune:
        found.append(_finetuning(job, job.data))
    return [*found, _readings(job, job.data)]


def _fusing(job: FuseJob) -> tuple[Planned, Fused]:
    """The stage of fusing, and the trial fusion with few images."""
    config = job.config
    images = calibration(config, job.data, [parent.architecture for parent in job.record.parents])
    fusion, seconds = _timed(lambda: job.fusion(config.settings, _first(images, FEW), config.to))
    what = f"{config.settings.method}, {len(job.parents)} models aligned and averaged"
    if images is not None and fusion.looked:
        if len(images) > FEW:
            more = _timed(lambda: job.fusion(config.settings, _first(images, 2 * FEW), config.to))[1]
            seconds += (len(images) - FEW) * max(0.0, more - seconds) / (min(len(images), 2 * FEW) - FEW)
        what += f", looking at {len(images):,} training {job.data.train.noun if job.data else 'images'} without their labels"
    return Planned("fusing", what, seconds), fusion


def _curves(job: FuseJob, fusion: Fused, data: Dataset) -> Planned:
    """The stage of curves between the parents."""
    split = data.validation.take(slice(0, FEW))
    average, merging = _timed(lambda: fusion.between(0.5))
    image = _timed(lambda: point(average, split, 0.5))[1] / len(split)
    plain = job.comparable and job.config.settings.method != "vanilla"
    points = len(SHARES) * (1 + plain)
    alone = 1 + len(job.parents) + bool(job.config.finetune)
    what = f"{points} averages with rising share, of models aligned{' and as they are' if plain else ''}, on validation"
    return Planned("curves", what, points * merging + (points + alone) * len(data.validation) * image)


def _finetuning(job: FuseJob, data: Dataset) -> Planned:
    """The stage of fine-tuning, with all parents as teachers."""
    parents = [parent.architecture for parent in job.record.parents]
    target = job.config.to or parents[job.record.anchor]
    recipe = tuning(job.config, target, data)
    steps = recipe.steps(len(data.train))
    teaching = recipe.batch * sum(image_seconds(architecture, data) for architecture in parents)
    what = f"{pick_device()}, all {len(parents)} models as teachers; recipe {recipe.text}"
    what = f"{recipe.epochs} epochs of {steps // recipe.epochs} steps on {what}"
    return Planned("fine-tuning", what, steps * (step_seconds(target, data, recipe) + teaching))


def _readings(job: FuseJob, data: Dataset) -> Planned:
    """The stage of readings: every model that is exported and scored."""
    settings = job.config.settings
    corrected = settings.repair or settings.method == "regress"
    graphs = len(job.parents) + 1 + bool(job.config.finetune)
    times = reading_times(load(job.parents[job.record.anchor]), data, job.device)
    seconds = times(graphs, len(data.validation) + len(data.test), None)
    seconds += times(1, len(data.validation), None) if corrected else 0.0
    what = f"{graphs + corrected} models exported and scored on validation and, all but an average on the way, on test"
    return Planned("final readings", what, seconds)


def _first(images: Tensor | None, n: int) -> Tensor | None:
    return None if images is None else images[:n]


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start
