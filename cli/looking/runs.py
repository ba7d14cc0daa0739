"""`wb runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder to look in, and below.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List searches: how far each is, its data and space, the best accuracy and the latencies it found, age and size."""
    from wb.search.results import runs as listing

    found = listing.runs(folder)
    if as_json:
        output.print_json([one.content() for one in found.listed])
        return
    if not found.listed:
        output.data.print(f"no runs in {folder}; `wb search` makes one", soft_wrap=True)
        return
    output.data.print(output.table(found.table()))
