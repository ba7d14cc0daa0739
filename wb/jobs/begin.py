"""Resuming a job: the record that an interruption left beside the output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from wb.core.errors import BadArtefact
from wb.data import Dataset
from wb.jobs.record import R
from wb.jobs.work import LOCK, RECORD, work_of


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
    return {"spec": data.spec, "fingerprint": data.fingerprint, "train": len(data.train)}
