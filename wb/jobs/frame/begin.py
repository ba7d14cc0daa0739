"""The beginning of a job: the record that an interruption left beside the output, or first readings for a new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from wb.core.commands.progress import Count
from wb.core.errors import BadArtefact
from wb.core.measures.readings import Reading
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.timing.measure import reference_pace
from wb.hardware.device import parse_device
from wb.jobs.frame.config import JobConfig
from wb.jobs.frame.record import R, origin
from wb.jobs.frame.work import LOCK, RECORD, work_of
from wb.models.model import Model
from wb.tasks.known import task_of


def begin(kind: type[R], config: BaseModel, worked_on: Mapping[str, JsonValue], out: Path) -> R | None:
    """The record of the same job beside `out`, None for a new one; `worked_on` as `JobRecord.worked_on`.

    Raises:
        BadArtefact: the record is of other settings, another model or other data, or the folder is something else.
    """
    record = left(kind, out)
    if record is not None and (record.config, record.worked_on) != (config, worked_on):
        raise refusal(kind, out)
    return record


def left(kind: type[R], out: Path) -> R | None:
    """The record that a job of this kind left beside `out`, None if there is none.

    Raises:
        BadArtefact: the record is damaged, or the folder is something else.
    """
    work = work_of(out)
    path = work / RECORD
    if not path.exists():
        if work.exists() and (not work.is_dir() or any(entry.name != LOCK for entry in work.iterdir())):
            raise BadArtefact(
                f"{work} is no folder of an interrupted {kind.called()}; move it away, or choose another --out"
            )
        return None
    try:
        return kind.read(path)
    except BadArtefact as error:
        raise BadArtefact(f"{error}. To start over, delete {work}, or choose another --out") from error


def refusal(kind: type[R], out: Path) -> BadArtefact:
    """The error that the folder beside `out` belongs to another job of that kind."""
    return BadArtefact(
        f"{work_of(out)} belongs to a {kind.called()} with {kind.difference}; delete it to start over, or choose another "
        "--out"
    )


def described(data: Dataset) -> dict[str, Any]:
    """The description of the data for a record."""
    noun = {} if data.train.noun == "images" else {"noun": data.train.noun}
    return {"spec": data.spec, "fingerprint": data.fingerprint, "train": len(data.train), **noun}


def measured(
    config: JobConfig, seed: int, model: Model, data: Dataset, told: Count, *, timed: bool = True
) -> tuple[dict[str, Any], dict[str, Reading]]:
    """What every new record of a job on `model` says first, by field, and the model's readings on the validation images.

    `told` hears on how many of them.
    """
    device = parse_device(config.device, threads=config.threads)
    pace = reference_pace(device)
    quality = task_of(model.architecture).metric
    assess = Assessor(device, pace, seed=seed)
    readings = assess({"model": model}, {quality: data.validation}, timed=timed, told=told)["model"]
    fields = {"config": config, "quality": quality, "model_key": model.fingerprint(), "data": described(data)}
    return {**origin(device.text), **fields, "pace": pace, "architecture": model.architecture}, readings
