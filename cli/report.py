"""`wb report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._options import ForceOption


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or not, or the JSON that `wb prune` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page to write. [default: report.html in the run; beside the JSON]"),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the report of a run or a pruning: one page that opens anywhere, without a network."""
    from wb.core.errors import BadOption

    if out is not None and out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    if run.suffix == ".json":
        from wb.compress import record
        from wb.compress import report as pruning

        page = out or run.with_suffix(".html")
        _output.written(pruning.write_report(record.read(run), run, page, force=force or out is None))
        return
    from wb.search.report import write_report
    from wb.search.run import Run

    _output.written(write_report(Run(run), out))
