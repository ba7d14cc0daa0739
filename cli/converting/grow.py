"""`wb grow`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import ForceOption, JsonOption


def grow(
    model: Annotated[Path, typer.Argument(help="A model file (.safetensors or .pt).")],
    *,
    to: Annotated[
        Path,
        typer.Option("--to", help="The larger architecture: a JSON file, or a model file whose weights are ignored."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write; its ONNX graph goes beside it.")],
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of what is new.", show_default="0")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a trained model deeper and wider without changing what it computes, so that training can go on.

    New blocks, heads, channels and hidden units add nothing at first. What cannot grow so is refused.
    """
    from wb.cli.frame.running import telling
    from wb.fusion.grow.verb import grow_file

    with output.progress() as work:
        found = grow_file(model, to, out, seed=seed or 0, force=force, report=telling(work, "reading"))
    if as_json:
        output.print_json(found.content())
        return
    for line in found.lines:
        output.data.print(line, markup=False, highlight=False, soft_wrap=True)
    for path in found.files:
        output.written(path)
