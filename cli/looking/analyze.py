"""`wb analyze`: one file per question, `cli/analyze_<question>.py`."""

from __future__ import annotations

import typer

from wb.cli.frame.options import Command
from wb.cli.looking.analyze_depth import depth

app = typer.Typer(no_args_is_help=True, help="Look into a trained model.")
app.command(cls=Command)(depth)
