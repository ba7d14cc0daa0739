"""`wb measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._options import (
    BackgroundOption,
    ByIndexOption,
    DeviceOption,
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


def measure(
    file: Annotated[Path, typer.Argument(help="A model file of wb's, or any ONNX file.")],
    data: ModelDataOption = None,
    split: Annotated[str, typer.Option(help="Images for the accuracy: validation or test.")] = "test",
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    by_index: ByIndexOption = False,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    background: BackgroundOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per run when timing.")] = 1,
    run_limit: RunLimitOption = None,
    cap: Annotated[float, typer.Option(min=0.1, help="Seconds after which timing stops at any precision.")] = 10.0,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency with its spread, accuracy if there are data, and count size, MACs and parameters.

    Networks get images in 0 to 1. For a network whose own loader prepares images, give --mean, --std and --scale, or
    --preprocessor; a graph that wb quantized has them in its metadata. Latency, MACs and energy are of one run; if a run takes
    more than one image, a note says how many. A metric that cannot be counted has no number, and the reason is given.
    """
    from wb.cli._job import telling
    from wb.jobs.inputs import given_data
    from wb.jobs.measuring import Measuring
    from wb.jobs.preparation import read_preparation

    measuring = Measuring(
        data=given_data(data, background),
        split=split,
        image_size=image_size,
        by_index=by_index,
        said=read_preparation(mean, std, scale, preprocessor),
        batch=batch,
        run_limit=run_limit,
        cap=cap,
        device=device or "cpu",
        threads=1 if threads is None else threads,
        seed=seed or 0,
    )
    with _output.progress() as work:
        found = measuring(file, telling(work, "reading"), _output.say)
    if as_json:
        _output.print_json(
            {name: {"value": None, "how": "counted", "note": why} for name, why in found.missing.items()}
            | {name: reading.model_dump(mode="json") for name, reading in found.readings.items()}
        )
        return
    _output.data.print(_output.readings_table(found.readings, str(file)))
    _output.data.print(
        "latency / reference: in units of a small fixed graph timed beside it, which other machines share"
    )
    for note in (*found.remarks, *(f"no {name}: {why}" for name, why in found.missing.items())):
        _output.data.print(note, markup=False, highlight=False, soft_wrap=True)
    if not found.scored:
        _output.messages.print("no accuracy: say which --data to score it on")
