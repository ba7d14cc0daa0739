"""The beginning of a binarization: everything that can be checked is checked before any time is spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wb import __version__
from wb.compress.binarize.job import Job, Report
from wb.compress.binarize.plan import check_work
from wb.compress.binarize.record import Config, Record, read
from wb.core.errors import BadArtefact
from wb.core.precision import TRAINED, precisions, with_precisions
from wb.core.provenance import machine, now, versions
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.counting.count import energy_by_part
from wb.export.timing.measure import reference_pace
from wb.hardware.device import parse_device
from wb.jobs.work import LOCK, work_of
from wb.models.model import Model, check_weights
from wb.training.train import check_fits


def begin(config: Config, model: Model, name: str, data: Dataset, out: Path, report: Report, *, force: bool) -> Job:
    """The job, with the original's readings, or as an interruption left it; nothing is written.

    The original is in floating point: a model that is kept in int8 or int4 has its weights whole, and is taken so.

    Raises:
        BadArtefact: weights that are not finite; or what lies beside `out` is of another binarization.
        BadData: the data do not fit the model.
        BadOption: nothing to do, no softmax mixer to convert, no group to round, or a group that the model does not have.
    """
    check_fits(model.architecture, data)
    check_weights(model.weights, name)
    check_work(config, model.architecture)
    quantized = {group for group, precision in precisions(model.architecture).items() if precision not in TRAINED}
    model = replace(model, architecture=with_precisions(model.architecture, dict.fromkeys(quantized, "fp32")))
    key = model.fingerprint()
    record = interrupted(out, config, key, data.fingerprint) or _measured(config, model, key, name, data, report)
    return Job(record, model, data, out, report, force)


def interrupted(out: Path, config: Config, model_key: str, fingerprint: str) -> Record | None:
    """The record of the interrupted binarization beside `out`, None where there is none.

    Raises:
        BadArtefact: it is of other settings, another model or other data, or the folder is something else.
    """
    work = work_of(out)
    path = work / "record.json"
    if not path.exists():
        if work.exists() and (not work.is_dir() or any(entry.name != LOCK for entry in work.iterdir())):
            raise BadArtefact(
                f"{work} is no folder of an interrupted binarization; move it away, or choose another --out"
            )
        return None
    record = read(path)
    if (record.config, record.model_key, record.data.get("fingerprint")) != (config, model_key, fingerprint):
        raise BadArtefact(
            f"{work} belongs to a binarization with other settings, another model or other data; delete it to start over, "
            "or choose another --out"
        )
    return record


def _measured(config: Config, model: Model, key: str, name: str, data: Dataset, report: Report) -> Record:
    """A new record, with readings of the original."""
    report("measuring the original", 0, 0)
    device = parse_device(config.device, threads=config.threads)
    pace = reference_pace(device)
    assess = Assessor(device, pace, seed=config.seed)
    return Record(
        created=now(),
        version=__version__,
        config=config,
        source=name,
        model_key=key,
        data={"spec": data.spec, "fingerprint": data.fingerprint, "train": len(data.train)},
        machine=machine(device.text),
        versions=versions(),
        pace=pace,
        architecture=model.architecture,
        energy=energy_by_part(model.architecture),
        first=assess({"original": model}, {"acc": data.validation}, timed=False)["original"],
    )
