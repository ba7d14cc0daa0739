"""`wb prune`: one file per method, `cli/prune_<method>.py`."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Make a trained model smaller, under a budget.")
