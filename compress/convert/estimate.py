"""The plan of `wb convert` (--dry-run): the stages of a job and about how long each takes here."""

from __future__ import annotations

import time
from functools import partial

from wb.compress.convert.job import ConvertJob
from wb.compress.convert.norms import converted
from wb.compress.convert.paths import PathEnsemble, ensembled
from wb.compress.convert.teach import OtherMixers, tried
from wb.compress.staged.estimate import estimate as planned
from wb.compress.staged.record import Name
from wb.core.architecture import Architecture
from wb.core.commands.plan import Planned
from wb.models.passes.base import apply
from wb.training.estimate import image_seconds

STEPS = 4  # for which one mixer is taught, to see how long that takes
WHAT = {
    "mixers": "each new mixer taught by itself to give what was there",
    "paths": "a sum of paths, as many of the first cut as validation images do better without",
    "norms": "layer norms into batch norms, whose statistics are found",
}


def estimate(job: ConvertJob) -> list[Planned]:
    """The stages; nothing is written. One mixer is taught for a few steps to see how long that takes."""
    return planned(job, partial(_converted, job), WHAT)


def _converted(job: ConvertJob, name: Name, before: Architecture) -> tuple[Architecture, float]:
    """The network of a stage that starts from `before`, and about how many seconds its conversion takes."""
    step = job.step(name)
    if isinstance(step, PathEnsemble):
        scored = sum(len(stage.paths) for stage in before.stages) * len(job.data.validation)
        return ensembled(before), scored * image_seconds(before, job.data)
    if not isinstance(step, OtherMixers):
        return converted(before), 0.0
    seconds = []
    for steps in (0, STEPS):
        start = time.perf_counter()
        apply(tried(step, before, steps), job.model)
        seconds.append(time.perf_counter() - start)
    each = max(0.0, seconds[1] - seconds[0]) / STEPS
    return step.converted(before), seconds[0] + len(step.records(before)) * step.steps * each
