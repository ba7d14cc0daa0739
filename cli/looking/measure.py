"""`wb measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import (
    BackgroundOption,
    JsonOption,
    MeanOption,
    PreprocessorOption,
    RunLimitOption,
    ScaleOption,
    StdOption,
)
from wb.cli.frame.options import Offer, options


def _offer() -> Offer:
    from wb.jobs.frame.config import MeasureConfig

    return Offer(MeasureConfig)


@options(_offer)
def measure(
    given: dict[str, Any],
    file: Annotated[Path, typer.Argument(help="A model file of wb's, or any ONNX file.")],
    *,
    background: BackgroundOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    run_limit: RunLimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency with its spread, accuracy if there are data, and count size, MACs and parameters.

    Networks get images in 0 to 1. For a network whose own loader prepares images, give --mean, --std and --scale, or
    --preprocessor; a graph that wb quantized has them in its metadata. Latency, MACs and energy are of one run; if a run takes
    more than one image, a note says how many. A metric that cannot be counted has no number, and the reason is given.
    """
    from wb.cli.frame.running import telling
    from wb.jobs.frame.output import config_of
    from wb.jobs.inputs import given_data
    from wb.jobs.verbs.measuring import Measuring
    from wb.jobs.verbs.preparation import read_preparation

    given["data"] = given_data(given.get("data"), background)
    images = read_preparation(mean, std, scale, preprocessor)
    measuring = config_of(Measuring, "measure", {**given, "images": images, "run_limit": run_limit})
    with output.progress() as work:
        found = measuring(file, telling(work, "reading"), output.say)
    if as_json:
        output.print_json(
            {name: {"value": None, "how": "counted", "note": why} for name, why in found.missing.items()}
            | {name: reading.model_dump(mode="json") for name, reading in found.readings.items()}
        )
        return
    output.data.print(output.readings_table(found.readings, str(file)))
    ratios = ", ".join(name for name in found.readings if name.endswith(" / reference"))
    if ratios:
        output.data.print(f"{ratios}: in units of a small fixed graph timed beside it, which other machines share")
    for note in (*found.remarks, *(f"no {name}: {why}" for name, why in found.missing.items())):
        output.data.print(note, markup=False, highlight=False, soft_wrap=True)
    if not found.scored:
        what = "perplexity" if any("@" in name for name in found.readings) else "accuracy"
        output.messages.print(f"no {what}: say which --data to score it on")
