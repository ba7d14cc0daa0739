"""The plan of a job in stages (--dry-run): the stages and about how long each takes here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wb.compress.staged.job import StagedJob
from wb.compress.staged.record import Name
from wb.core.architecture import Architecture
from wb.core.commands.plan import Planned
from wb.export.assess import FINAL_S
from wb.export.timing.estimate import reading_times
from wb.hardware.device import parse_device
from wb.training.estimate import network_stage, training_stage

Converted = Callable[[Name, Architecture], tuple[Architecture, float]]
"""The network of a stage that starts from another, and about how many seconds its conversion takes."""


def estimate(job: StagedJob[Any], converted: Converted, what: Mapping[str, str]) -> list[Planned]:
    """The stages; nothing is written. `what` says what is done in each."""
    config, model = job.settings, job.model
    times = reading_times(model, job.data, parse_device(config.device, threads=config.threads))
    found = [network_stage(model.architecture, job.record.source)]
    architecture = model.architecture
    for name in job.names:
        architecture, seconds = converted(name, architecture)
        found.append(Planned(name, what[name], seconds + times(1, len(job.data.validation), None)))
        if config.finetune:
            title = f"{name}, fine-tuning"
            recipe = job.recipe(name, architecture)
            found.append(training_stage(title, architecture, job.data, recipe, teacher=True))
    graphs = 1 + len(job.names)
    images = len(job.data.validation) + len(job.data.test)
    said = f"{graphs} models exported, scored on validation and test, and timed together"
    return [*found, Planned("final readings", said, times(graphs, images, FINAL_S))]
