"""`wb diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame import output
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


def _offer() -> Offer:
    from wb.jobs.diff.config import DiffConfig

    return Offer(DiffConfig)


@options(_offer)
def diff(
    given: dict[str, Any],
    a: Annotated[Path, typer.Argument(help="A model file of wb's, or any ONNX file.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    *,
    background: BackgroundOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    run_limit: RunLimitOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page to write (.html).", show_default="none")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show also what is equal.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what two models differ in: architecture, sizes, weights, outputs layer by layer, readings, lineage.

    Both run on the same images: of data, or made up, which is then said. Options of images are for networks that are not wb's,
    as in wb measure. Two equal models are said to be equal.
    """
    from wb.cli.frame.running import telling
    from wb.core.errors import BadOption
    from wb.jobs.diff.compare import Comparing
    from wb.jobs.diff.page import write
    from wb.jobs.diff.words import remarks, tables
    from wb.jobs.frame.output import check_free, config_of
    from wb.jobs.inputs import given_data
    from wb.jobs.verbs.preparation import read_preparation

    if out is not None:
        if out.suffix != ".html":
            raise BadOption(f"{out.name} is no name for a page; end it in .html")
        check_free(out, force=force)
    given["data"] = given_data(given.get("data"), background)
    images = read_preparation(mean, std, scale, preprocessor)
    comparing = config_of(Comparing, "diff", {**given, "preparation": images, "run_limit": run_limit})
    with output.progress() as work:
        found = comparing(a, b, telling(work, "reading"), output.say)
    if out is not None:
        write(found, out, everything=everything, force=force)
    if as_json:
        shown = found if everything else found.differing()
        output.print_json(shown.model_dump(mode="json") | {"out": None if out is None else str(out)})
        return
    for table in tables(found, everything=everything):
        output.data.print(output.table(table))
    output.remarks(remarks(found))
    if out is not None:
        output.written(out)
