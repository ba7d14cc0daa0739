"""`wb report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._options import ForceOption


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or not.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page to write. [default: report.html in the run]")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the report of a run: one page that opens anywhere, without a network."""
    from wb.core.errors import BadOption
    from wb.search.report import write_report
    from wb.search.run import Run

    if out is not None and out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    _output.written(write_report(Run(run), out))
