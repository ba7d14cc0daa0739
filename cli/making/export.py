"""`wb export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import ForceOption, JsonOption

if TYPE_CHECKING:
    from wb.core.measures.readings import Reading

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
    stages: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Write a folder of so many ONNX files, each with some blocks, to be run in order.",
            show_default="one",
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as an ONNX graph that takes images in [0, 1], checked against the model; or for another library."""
    from wb.core.errors import BadOption
    from wb.jobs.verbs.exporting import export_file, export_line, export_to

    target = out or folder
    if target is None or (out is not None and folder is not None):
        raise BadOption(
            "say once where to write: -o FILE for an ONNX graph, --to torch FOLDER for example for another form"
        )
    if stages is not None:
        if to != "onnx" or exporter is not None:
            other = f"--to {to}" if to != "onnx" else "--exporter"
            raise BadOption(f"--stages writes ONNX files by torch's older exporter; leave {other} out")
        parity = export_line(model, target, stages, opset=opset or OPSET, force=force, mirror=mirror)
        files = [target / "stages.json", *(target / f"{number}.onnx" for number in range(stages))]
        _told(parity, files, {"files": [str(path) for path in files]}, as_json=as_json)
        return
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
    _told(parity, [target], {"onnx": str(target), "bytes": target.stat().st_size}, as_json=as_json)


def _told(parity: Reading, files: Sequence[Path], content: dict[str, Any], *, as_json: bool) -> None:
    """How far the graphs are from the model, and where they are."""
    if as_json:
        output.print_json(content | {"largest_difference": parity.value})
        return
    why = f" ({parity.note})" if parity.note else ""
    output.data.print(
        f"largest difference from the model's logits: {parity.value:.2g}{why}", highlight=False, soft_wrap=True
    )
    for path in files:
        output.written(path)
