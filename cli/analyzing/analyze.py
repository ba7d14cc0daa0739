"""`wb analyze`: one file per question, `cli/analyzing/<question>.py`."""

from __future__ import annotations

import typer

from wb.cli.analyzing.attention import attention
from wb.cli.analyzing.depth import depth
from wb.cli.frame.options import Command

app = typer.Typer(no_args_is_help=True, help="Look into a trained model.")
app.command(cls=Command)(depth)
app.command(cls=Command)(attention)
