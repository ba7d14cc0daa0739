"""`wb report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import ForceOption


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="A run folder, finished or not; several, to compare them; or the JSON that `wb prune`, `wb fuse`, "
            "`wb quantize`, `wb binarize` or `wb convert` wrote.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The page to write.",
            show_default="report.html in the run; comparison.html where several are; beside the JSON",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the report of a run, of several, or of another command's JSON record: one page that opens anywhere.

    Several runs are drawn in one figure, with the front of all together where their data and devices are the same.
    """
    from wb.core.errors import BadOption

    if out is not None and out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    from wb.jobs.kinds import RUN, need

    if len(runs) > 1:
        output.written(_comparison(runs, out))
        return
    run = runs[0]
    kind = need(run, "run", "record", "json", expected=RUN) if run.exists() else None
    if run.suffix == ".json" or kind in ("record", "json"):
        page = out or run.with_suffix(".html")
        output.written(_page(run, page, force=force or out is None))
        return
    from wb.search.page.report import write_report
    from wb.search.run import Run

    output.written(write_report(Run(run), out))


def _comparison(folders: list[Path], out: Path | None) -> Path:
    """Writes the page of several runs; by default into the folder that they have in common."""
    import os

    from wb.core.errors import BadOption
    from wb.jobs.kinds import need
    from wb.search.page.compare import write_comparison
    from wb.search.run import Run

    for folder in folders:
        need(folder, "run", expected="run folders of `wb search`, where several are compared")
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise BadOption(f"a run comes twice in {', '.join(map(str, folders))}; name each once")
    common = Path(os.path.commonpath([place.parent for place in places]))
    return write_comparison([Run(folder) for folder in folders], out or common / "comparison.html")


def _page(path: Path, page: Path, *, force: bool) -> Path:
    """Writes the page of the record at `path`, whichever command wrote it."""
    from wb.jobs.frame.page import write_page
    from wb.jobs.kinds import job_of

    job = job_of(_kind(path))
    return write_page(job, job.record_type.read(path), path, page, force=force)


def _kind(path: Path) -> str | None:
    """The `kind` in a record; None if there is none, or the file is no record."""
    import json

    from wb.core.system.files import read_text

    text = read_text(path, "the JSON that `wb prune`, `wb fuse`, `wb quantize`, `wb binarize` or `wb convert` wrote")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None
