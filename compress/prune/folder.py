"""The folder of a pruning that is under way, taken up again after an interruption."""

from __future__ import annotations

from pathlib import Path

from wb.compress.prune.record import Config, Record, read
from wb.core.errors import BadArtefact
from wb.jobs.work import LOCK, work_of


def interrupted(out: Path, config: Config, model_key: str, fingerprint: str) -> Record | None:
    """The record of the interrupted pruning beside `out`, None where there is none.

    Raises:
        BadArtefact: it is of other settings, another model or other data, or the folder is something else.
    """
    work = work_of(out)
    path = work / "record.json"
    if not path.exists():
        if work.exists() and (not work.is_dir() or any(entry.name != LOCK for entry in work.iterdir())):
            raise BadArtefact(f"{work} is no folder of an interrupted pruning; move it away, or choose another --out")
        return None
    record = read(path)
    if (record.config, record.model_key, record.data.get("fingerprint")) != (config, model_key, fingerprint):
        raise BadArtefact(
            f"{work} belongs to a pruning with other settings, another model or other data; delete it to start over, or "
            "choose another --out"
        )
    return record
