"""`wb doctor`."""

from __future__ import annotations

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Check that installed versions work together, list the runtimes, and show how noisy this machine's clock is."""
    from rich.table import Table
    from rich.text import Text

    from wb.cli.looking.health import checks

    with output.progress() as progress:
        task = progress.add_task("looking", total=None)
        found = list(checks(lambda text: progress.update(task, description=text)))
    if as_json:
        output.print_json([check._asdict() for check in found])
    else:
        table = Table()
        for column in ("", "what", "found", "advice"):
            table.add_column(column, overflow="fold")
        for check in found:
            table.add_row("ok" if check.ok else Text("no", "red"), check.what, check.found, check.advice)
        output.data.print(table)
    if not all(check.ok for check in found):
        raise typer.Exit(1)
