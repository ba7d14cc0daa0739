"""`wb data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption
from wb.cli.frame.options import Offer, options


def _offer() -> Offer:
    from wb.jobs.frame.config import DataConfig

    return Offer(DataConfig, without=("data",))


@options(_offer)
def data(
    given: dict[str, Any],
    source: Annotated[
        str,
        typer.Argument(
            help="As --data takes it: digits, imagefolder:PATH, idx:PATH, cifar10:PATH, npz:FILE or hf:PLACE; of texts "
            "csv:FILES, jsonl:FILES or listops."
        ),
    ],
    *,
    background: BackgroundOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="A page to write (.html), or a picture of samples (.png).", show_default="none"
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what was understood of data: splits, classes, copies within and across splits, and what was left out.

    npz: is an archive of NumPy with arrays x and y, and an optional split, or x_train, y_train and so on, of images or, with
    npz,values=features:FILE, of any numbers, which stay as they are; hf: is a data set of Hugging Face's library, a folder or a
    name on the hub, and may be told the columns: hf,image=COLUMN,label=COLUMN:PLACE. Texts that are longer than a network reads
    are counted here, where commands that train refuse them without --truncate.
    """
    from wb.cli.frame.running import telling
    from wb.data import load
    from wb.data.spec import resolved
    from wb.data.summary import summarize
    from wb.jobs.frame.config import DataConfig
    from wb.jobs.frame.output import config_of
    from wb.jobs.inputs import given_data
    from wb.jobs.summary.page import check_output, write
    from wb.jobs.summary.words import classes_table, remarks, splits_table

    config = config_of(DataConfig, "data", {**given, "data": given_data(source, background)})
    if out is not None:
        check_output(out, force=force)
    with output.progress() as work:
        progress = telling(work, "reading the data")
        dataset = load(
            resolved(config.data or source),
            image_size=config.image_size,
            limit=config.limit,
            looking=True,
            progress=lambda done, of: progress("reading images", done, of),
        )
        found = summarize(dataset, progress)
        if out is not None:
            progress("writing samples", 0, 0)
            write(found, dataset, out, force=force)
    if as_json:
        output.print_json(found.model_dump(mode="json") | {"out": None if out is None else str(out)})
        return
    output.data.print(output.table(splits_table(found)))
    output.data.print(output.table(classes_table(found)))
    output.remarks(remarks(found))
    if out is not None:
        output.written(out)
