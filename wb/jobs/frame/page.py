"""The page of a job: one HTML file made from its record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from wb.core.errors import BadArtefact
from wb.core.system.files import write_text
from wb.jobs.frame.record import JobRecord
from wb.page.page import link


class Paged(Protocol):
    """A kind of job that names the function that makes its page."""

    @property
    def page(self) -> str: ...


def write_page(
    job: Paged,
    record: JobRecord[Any],
    record_path: Path,
    path: Path,
    *,
    beside: Path | None = None,
    force: bool = False,
) -> Path:
    """Writes the page of a finished job to `path` and returns it; links are relative to `beside`, by default its folder.

    Raises:
        BadArtefact: the job is not finished.
        BadOption: `path` exists and `force` is false.
        StorageFailed: it could not be written.
    """
    if not record.done:
        raise BadArtefact(
            f"{record_path} is of a {record.called()} that is not finished; continue it with the same command"
        )
    page = resolve_name(job.page)  # imports the plotting libraries only now
    write_text(path, page(record, record_path.parent, beside or path.parent), force=force)
    return path


def links(files: Mapping[str, str | None], folder: Path, beside: Path) -> dict[str, str]:
    """Links to the files in `folder` from a page in `beside`; records of older versions name fewer files."""
    return {what: link(folder / file, beside) for what, file in files.items() if file is not None}


def settings(
    record: JobRecord[Any], sections: Mapping[str, Mapping[str, object]], **machine: str
) -> dict[str, dict[str, object]]:
    """The last part of a page: the job's own `sections`, then the machine, versions and wall times.

    `machine` has further lines about the machine.
    """
    return {
        **{title: dict(content) for title, content in sections.items()},
        **({"recipe": dict(record.recipes)} if record.recipes else {}),
        "machine": {**record.machine, **{name.replace("_", " "): text for name, text in machine.items()}},
        "versions": dict(record.versions),
        "wall time": {name: f"{seconds:.1f} s" for name, seconds in record.seconds.items()},
    }
