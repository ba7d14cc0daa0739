"""The page of a job: one HTML file, made of its record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from wb.core.errors import BadArtefact
from wb.core.files import write_text
from wb.jobs.record import JobRecord
from wb.page.page import link


class Paged(Protocol):
    """A kind of job that says which function makes its page."""

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
    """Writes the page of a finished job to `path`; its links are relative to `beside` (where `path` lies), and says where.

    Raises:
        BadArtefact: the job is not finished.
        BadOption: `path` exists and `force` is false.
        StorageFailed: it could not be written.
    """
    if not record.done:
        raise BadArtefact(
            f"{record_path} is of a {record.called()} that is not finished; continue it with the same command"
        )
    page = resolve_name(job.page)  # the libraries of figures are loaded now
    write_text(path, page(record, record_path.parent, beside or path.parent), force=force)
    return path


def links(files: Mapping[str, str | None], folder: Path, beside: Path) -> dict[str, str]:
    """What is left in `folder`, by what it is, as links of a page in `beside`; records of before name fewer files."""
    return {what: link(folder / file, beside) for what, file in files.items() if file is not None}


def settings(
    record: JobRecord[Any], sections: Mapping[str, Mapping[str, object]], **machine: str
) -> dict[str, dict[str, object]]:
    """The last part of a page: `sections` that are the job's own, then where it ran and what took how long.

    `machine` is what is to be said there besides.
    """
    return {
        **{title: dict(content) for title, content in sections.items()},
        "machine": {**record.machine, **{name.replace("_", " "): text for name, text in machine.items()}},
        "versions": dict(record.versions),
        "wall time": {name: f"{seconds:.1f} s" for name, seconds in record.seconds.items()},
    }
