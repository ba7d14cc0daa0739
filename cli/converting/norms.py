"""`wb fold norms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import ForceOption, JsonOption


def norms(
    model: Annotated[Path, typer.Argument(help="A model file (.safetensors or .pt).")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write; its ONNX graph goes beside it.")],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fold batch norms, and re-parameterized ones, into the linear maps behind them: the same function without them.

    `wb convert --norm repbn` gives a trained transformer such norms.
    """
    from wb.jobs.verbs.folding import fold_file

    found = fold_file(model, out, force=force)
    if as_json:
        output.print_json(found.content())
        return
    for line in found.lines:
        output.data.print(line, markup=False, highlight=False, soft_wrap=True)
    for path in found.files:
        output.written(path)
