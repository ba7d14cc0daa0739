"""The beginning of a pruning: everything that can be checked is checked before any time is spent."""

from __future__ import annotations

from pathlib import Path

from wb import __version__
from wb.compress.nvit.cost import parameters_by_part
from wb.compress.nvit.nvit import check_keep
from wb.compress.prune.folder import interrupted
from wb.compress.prune.job import Job, Report
from wb.compress.prune.record import Config, Record
from wb.compress.prune.stages import stages_of
from wb.core.provenance import machine, now, versions
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.timing.measure import reference_pace
from wb.hardware.device import parse_device
from wb.models.model import Model, check_weights
from wb.training.train import check_fits


def begin(config: Config, model: Model, name: str, data: Dataset, out: Path, report: Report, *, force: bool) -> Job:
    """The job, with the dense model's readings, or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: weights that are not finite; or what lies beside `out` is of another pruning.
        BadData: the data do not fit the model.
        BadOption: an axis that the model does not have, a budget that is met already, a snapshot below the budget.
    """
    check_fits(model.architecture, data)
    check_keep(config.settings.keep, model.architecture)
    check_weights(model.weights, name)
    key = model.fingerprint()
    record = interrupted(out, config, key, data.fingerprint) or _measured(config, model, key, name, data, report)
    stages_of(config.limits, config.snapshots, config.settings.rounds, record.dense)  # raises
    return Job(record, model, data, out, report, force)


def _measured(config: Config, model: Model, key: str, name: str, data: Dataset, report: Report) -> Record:
    """A new record, with the readings that the limits refer to."""
    report("measuring the dense model", 0, 0)
    device = parse_device(config.device, threads=config.threads)
    pace = reference_pace(device)
    assess = Assessor(device, pace, seed=config.settings.seed)
    return Record(
        created=now(),
        version=__version__,
        config=config,
        model=name,
        model_key=key,
        data={"spec": data.spec, "fingerprint": data.fingerprint, "train": len(data.train)},
        machine=machine(device.text),
        versions=versions(),
        pace=pace,
        architecture=model.architecture,
        parts=parameters_by_part(model.architecture),
        dense=assess({"dense": model}, {"acc": data.validation})["dense"],
    )
