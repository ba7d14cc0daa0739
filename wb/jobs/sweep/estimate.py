"""The plan of `wb sweep aspect` (--dry-run): the stages and about how long each takes here."""

from __future__ import annotations

from wb.core.commands.plan import Planned
from wb.export.assess import FINAL_S
from wb.jobs.sweep.job import AspectJob, lengths
from wb.training.estimate import image_seconds, network_stage, training_stage


def estimate(job: AspectJob) -> list[Planned]:
    """The stages; nothing is written."""
    record, config, data = job.record, job.config, job.data
    deepest = record.deepest.architecture
    runs = len(lengths(config, deepest)) * (2 if deepest.causal else 1)
    what = f"{len(record.shapes)} shapes together, {runs} run{'s' * (runs > 1)} of each"
    found = [
        network_stage(deepest, f"the deepest of {len(record.shapes)} shapes, {record.deepest.name}"),
        Planned("timing", what, runs * len(record.shapes) * FINAL_S),
    ]
    scored, each = len(data.validation) + len(data.test), 0.0
    for shape in record.shapes:
        one = training_stage(shape.name, shape.architecture, data, job.recipe, teacher=False)
        found.append(one._replace(what=f"{config.seeds} seeds: {one.what}", seconds=config.seeds * one.seconds))
        each += image_seconds(shape.architecture, data)
    said = f"{len(record.shapes) * config.seeds} graphs on {scored:,} {data.train.noun} of validation and test"
    return [*found, Planned("scoring", said, config.seeds * scored * each)]
