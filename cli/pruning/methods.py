"""`wb prune`: one file per method, `cli/prune_<method>.py`."""

from __future__ import annotations

import typer

from wb.cli.frame.options import Command
from wb.cli.pruning.depgraph import depgraph
from wb.cli.pruning.depth import depth
from wb.cli.pruning.nvit import nvit

app = typer.Typer(no_args_is_help=True, help="Make a trained model smaller, under a budget.")
for command in (nvit, depth, depgraph):
    app.command(cls=Command)(command)
