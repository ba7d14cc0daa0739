"""`wb analyze`."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Look into a trained model.")
