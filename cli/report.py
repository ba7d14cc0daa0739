"""`wb report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or not.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page to write. [default: report.html in the run]")
    ] = None,
) -> None:
    """Write the report of a run: one page that opens anywhere, without a network."""
    from wb.search.report import write_report
    from wb.search.run import Run

    _output.written(write_report(Run(run), out))
