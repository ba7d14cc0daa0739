"""`wb export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._shared import ForceOption, JsonOption


def export(
    model: Annotated[Path, typer.Argument(help="A model file (.safetensors or .pt).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    opset: Annotated[int, typer.Option(min=17, max=23, help="ONNX operator set; 17 for old runtimes.")] = 20,
    exporter: Annotated[str, typer.Option(help="torchscript (fast) or dynamo (torch's newer one).")] = "torchscript",
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Look at the mirror image too: for models trained on flips, in twice the time."),
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as an ONNX graph that takes images in [0, 1], checked against the model."""
    from wb.jobs.exporting import export_file

    parity = export_file(model, out, opset=opset, exporter=exporter, force=force, mirror=mirror)
    if as_json:
        _output.print_json({"onnx": str(out), "largest_difference": parity.value, "bytes": out.stat().st_size})
        return
    why = f" ({parity.note})" if parity.note else ""
    _output.data.print(
        f"largest difference from the model's logits: {parity.value:.2g}{why}", highlight=False, soft_wrap=True
    )
    _output.written(out)
