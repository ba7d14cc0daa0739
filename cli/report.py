"""`wb report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._shared import ForceOption


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run folder, finished or not, or the JSON that `wb prune`, `wb fuse`, `wb quantize` or `wb binarize` wrote."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page to write.", show_default="report.html in the run; beside the JSON"),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the report of a run or of another command's JSON record: one page that opens anywhere, without a network."""
    from wb.core.errors import BadOption

    if out is not None and out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    from wb.jobs.kinds import RUN, need

    kind = need(run, "run", "record", "json", expected=RUN) if run.exists() else None
    if run.suffix == ".json" or kind in ("record", "json"):
        page = out or run.with_suffix(".html")
        _output.written(_page(run, page, force=force or out is None))
        return
    from wb.search.page.report import write_report
    from wb.search.run import Run

    _output.written(write_report(Run(run), out))


def _page(path: Path, page: Path, *, force: bool) -> Path:
    """Writes the page of the record at `path`, whichever command wrote it."""
    from wb.jobs.kinds import job_of
    from wb.jobs.page import write_page

    job = job_of(_kind(path))
    return write_page(job, job.record_type.read(path), path, page, force=force)


def _kind(path: Path) -> str | None:
    """The `kind` in a record; None if there is none, or the file is no record."""
    import json

    from wb.core.files import read_text

    text = read_text(path, "the JSON that `wb prune`, `wb fuse`, `wb quantize` or `wb binarize` wrote")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None
