"""`wb export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import ForceOption, JsonOption

OPSET, EXPORTER = 20, "torchscript"


def export(
    model: Annotated[Path, typer.Argument(help="A model file (.safetensors or .pt), or a checkpoint.")],
    folder: Annotated[
        Path | None, typer.Argument(help="The folder to write, with --to.", show_default="what --out says")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The ONNX file or, with --to, the folder to write.", show_default="FOLDER"),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="onnx; torch: the weights and a file of plain PyTorch; hf or timm: a checkpoint of that library; source: the "
            "files that it was imported from."
        ),
    ] = "onnx",
    opset: Annotated[
        int | None,
        typer.Option(min=17, max=23, help="ONNX operator set; 17 for old runtimes.", show_default=str(OPSET)),
    ] = None,
    exporter: Annotated[
        str | None, typer.Option(help="torchscript (fast) or dynamo (torch's newer one).", show_default=EXPORTER)
    ] = None,
    mirror: Annotated[
        bool,
        typer.Option("--mirror", help="Look at the mirror image too: for models trained on flips, in twice the time."),
    ] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as an ONNX graph that takes images in [0, 1], checked against the model; or for another library."""
    from wb.core.errors import BadOption
    from wb.jobs.verbs.exporting import export_file, export_to

    target = out or folder
    if target is None or (out is not None and folder is not None):
        raise BadOption(
            "say once where to write: -o FILE for an ONNX graph, --to torch FOLDER for example for another form"
        )
    if to != "onnx":
        given = "--opset" if opset is not None else "--exporter"
        if opset is not None or exporter is not None:
            raise BadOption(f"{given} is of ONNX graphs, and --to {to} writes none; leave one of the two out")
        written = export_to(model, to, target, force=force, mirror=mirror)
        if as_json:
            output.print_json({"files": [str(path) for path in written]})
            return
        for path in written:
            output.written(path)
        return
    parity = export_file(model, target, opset=opset or OPSET, exporter=exporter or EXPORTER, force=force, mirror=mirror)
    if as_json:
        output.print_json({"onnx": str(target), "largest_difference": parity.value, "bytes": target.stat().st_size})
        return
    why = f" ({parity.note})" if parity.note else ""
    output.data.print(
        f"largest difference from the model's logits: {parity.value:.2g}{why}", highlight=False, soft_wrap=True
    )
    output.written(target)
