"""`wb quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli._dry_run import DryRunOption
from wb.cli._options import DataOption, DeviceOption, ForceOption, JsonOption, SeedOption, ThreadsOption


def quantize(
    model: Annotated[
        Path | None,
        typer.Argument(help="A model file, or any ONNX file. \\[default: the stock model, trained on first use]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The ONNX file to write; model, report and record go beside it. \\[default: runs/quantize-<date>-<time>/]",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="int8-dynamic (activations quantized as they come, convolutions in fp32), int8 (static, NNCF), "
            "int4-weights, or mixed (group by group, by sensitivity). \\[default: int8-dynamic; mixed with a budget]"
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="size=0.3x, acc=-0.5 (points), latency=0.6x, or absolute. \\[default: acc=-0.5 with mixed]"),
    ] = None,
    calib: Annotated[
        int | None, typer.Option(min=1, help="Inputs to calibrate on, or random ones to compare on. \\[default: 128]")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Typical inputs: a folder of images, .npy or .npz. \\[default: training images]")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A group that stays in floating point, or what its name begins with: s0.b3, head."),
    ] = None,
    data: DataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Quantize a trained model, and measure what that does to accuracy, size and latency.

    A foreign ONNX file is scored only where --data are given. A slower graph is never called an improvement, and a budget
    that is missed leaves nothing (exit code 3). Interrupted, `mixed` continues with the same command and the same --out.
    """
    from wb.cli._quantize import config_of, plan, run

    config = config_of(
        model,
        policy=policy or ("mixed" if budget else "int8-dynamic"),
        budget=tuple(budget or ()),
        data=data,
        image_size=image_size,
        calibration=calibration,
        calib=calib,
        keep=tuple(keep or ()),
        seed=seed or 0,
        device=device or "cpu",
        threads=1 if threads is None else threads,
    )
    (plan if dry_run else run)(config, model, out, force=force, as_json=as_json)
