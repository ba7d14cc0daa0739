"""`wb quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame.common import (
    BackgroundOption,
    ForceOption,
    JsonOption,
    MeanOption,
    PreprocessorOption,
    RunLimitOption,
    ScaleOption,
    StdOption,
)
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


def _offer() -> Offer:
    from wb.compress.quantize.config import QuantizeConfig

    return Offer(QuantizeConfig, without=("images", "limit"))  # images: from --mean, --std, --scale and --preprocessor


@options(_offer)
def quantize(
    given: dict[str, Any],
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
    *,
    background: BackgroundOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    run_limit: RunLimitOption = None,
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
    from wb.cli.frame.running import Asked, chosen
    from wb.cli.making import quantize_work
    from wb.compress.quantize.given import background_of_data, is_graph
    from wb.jobs.verbs.preparation import read_preparation

    asked = Asked(model, out, force, dry_run, as_json)
    said = read_preparation(mean, std, scale, preprocessor)
    foreign = is_graph(model)
    of_data = background_of_data(given, background)
    given = chosen(given, asked.files, of_data, needed=not foreign, guess=not foreign, graphs=True)
    quantize_work.quantize({**given, "images": said, "background": background}, run_limit, asked)
