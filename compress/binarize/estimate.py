"""The plan of `wb binarize` (--dry-run): the stages of a job and about how long each takes here."""

from __future__ import annotations

import time
from dataclasses import replace

from wb.compress.binarize.hash import HashAttention
from wb.compress.binarize.job import BinarizeJob
from wb.compress.binarize.plan import stages_of, step_of
from wb.compress.binarize.record import Name
from wb.core.architecture import Architecture
from wb.core.commands.plan import Planned
from wb.core.records import Hash
from wb.export.assess import FINAL_S
from wb.export.timing.estimate import reading_times
from wb.hardware.device import parse_device
from wb.jobs.frame.tune import tuning
from wb.models.model import Model
from wb.models.passes.base import apply
from wb.training.estimate import network_stage, training_stage

WHAT = {
    "hash": f"{Hash.title}: its functions learned from attention maps, block by block",
    "w1": "binary weights",
    "w2": "ternary weights",
}


def estimate(job: BinarizeJob) -> list[Planned]:
    """The stages; nothing is written. One block is converted to hash attention to see how long that takes.

    Raises:
        BadOption: sizes of hash functions that do not fit.
    """
    config, model = job.config, job.model
    times = reading_times(model, job.data, parse_device(config.device, threads=config.threads))
    found = [network_stage(model.architecture, job.record.source)]
    architecture = model.architecture
    for name in stages_of(config):
        architecture, seconds = _converted(job, name, architecture)
        found.append(Planned(name, WHAT[name], seconds + times(1, len(job.data.validation), None)))
        if config.finetune:
            title = f"{name}, fine-tuning"
            found.append(
                training_stage(title, architecture, job.data, tuning(config, architecture, job.data), teacher=True)
            )
    graphs = 1 + len(stages_of(config))
    images = len(job.data.validation) + len(job.data.test)
    what = f"{graphs} models exported, scored on validation and test, and timed together"
    return [*found, Planned("final readings", what, times(graphs, images, FINAL_S))]


def _converted(job: BinarizeJob, name: Name, before: Architecture) -> tuple[Architecture, float]:
    """The network of a stage that starts from `before`, and about how many seconds its conversion takes."""
    step = step_of(name, job.config, job.model.architecture, job.data, lambda *_: None)
    if not isinstance(step, HashAttention):
        return step(Model(before, {})).architecture, 0.0  # rounding needs no weights here, and no time
    after = step.converted(before)
    pairs = zip(before.blocks(), after.blocks(), strict=True)
    blocks = [name for (name, _, old), (_, _, new) in pairs if old.mixer != new.mixer]
    start = time.perf_counter()
    apply(replace(step, blocks=tuple(blocks[:1])), job.model)
    return after, len(blocks) * (time.perf_counter() - start)
