"""`wb fold`: one file per subject, `cli/converting/<subject>.py`."""

from __future__ import annotations

import typer

from wb.cli.converting.norms import norms
from wb.cli.frame.options import Command

app = typer.Typer(no_args_is_help=True, help="Fold parts of a trained model into its linear maps: the same function.")


@app.callback()
def _group() -> None:
    """Keeps the subject a word of its own while there is one only."""


app.command(cls=Command)(norms)
