"""`wb quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli._dry_run import DryRunOption
from wb.cli._options import (
    BackgroundOption,
    ByIndexOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    MeanOption,
    ModelDataOption,
    PreprocessorOption,
    RunLimitOption,
    ScaleOption,
    SeedOption,
    StdOption,
    ThreadsOption,
)
from wb.jobs.names import SAMPLES


def quantize(
    model: Annotated[
        Path | None,
        typer.Argument(help="A model file, or any ONNX file.", show_default="the stock model, trained on first use"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The ONNX file to write; model, report and record go beside it.",
            show_default="a new folder in runs/",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="int8-dynamic (activations quantized at run time, convolutions in fp32), int8 (static, NNCF), "
            "int4-weights, or mixed (group by group, by sensitivity).",
            show_default="int8-dynamic; mixed with a budget",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="size=0.3x, acc=-0.5 (points), latency=0.6x, or absolute.", show_default="acc=-0.5 with mixed"
        ),
    ] = None,
    calib: Annotated[
        int | None,
        typer.Option(SAMPLES, min=1, help="Number of inputs to calibrate on, or to compare on.", show_default="128"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Typical inputs: a folder of images, .npy or .npz.", show_default="training images"),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Group to keep in floating point, or the beginning of its name: s0.b3, head."),
    ] = None,
    data: ModelDataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    by_index: ByIndexOption = False,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    run_limit: RunLimitOption = None,
    background: BackgroundOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Quantize a trained model, and measure what that does to accuracy, size and latency.

    A foreign ONNX file is scored only with --data. It gets images in 0 to 1, prepared as --mean, --std, --scale or
    --preprocessor say; the metadata of the quantized file then describe that preparation.

    A slower graph is never called an improvement. If a budget is missed, no graph is written (exit code 3). Interrupted,
    `mixed` continues with the same command and the same --out.
    """
    from wb.cli import _quantize
    from wb.cli._job import Asked, chosen
    from wb.jobs.preparation import read_preparation

    said = read_preparation(mean, std, scale, preprocessor)
    foreign = model is not None and model.suffix == ".onnx"
    of_data = background if calibration is None or data is not None else None  # otherwise it is for the calibration
    files = [model] if model else []
    given = {
        **chosen(files, data, of_data, image_size, needed=not foreign, guess=not foreign, graphs=True).fields,
        "policy": policy or ("mixed" if budget else "int8-dynamic"),
        "budget": tuple(budget or ()),
        "by_index": by_index,
        "images": said,
        "calibration": calibration,
        "background": background,
        "calib": calib,
        "keep": tuple(keep or ()),
        "seed": seed or 0,
        "device": device or "cpu",
        "threads": 1 if threads is None else threads,
    }
    _quantize.quantize(given, run_limit, Asked(model, out, force, dry_run, as_json))
