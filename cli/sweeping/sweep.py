"""`wb sweep`: one file per question, `cli/sweeping/<question>.py`."""

from __future__ import annotations

import typer

from wb.cli.frame.options import Command
from wb.cli.sweeping.aspect import aspect

app = typer.Typer(no_args_is_help=True, help="Train networks of several shapes alike, and say what the shape is worth.")
app.command(cls=Command)(aspect)


@app.callback()
def _several() -> None:
    """Keeps the question a word of its own while there is one."""
