"""`wb sweep aspect`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption

if TYPE_CHECKING:
    from wb.core.commands.progress import Progress
    from wb.jobs.sweep.job import AspectJob
    from wb.jobs.sweep.record import AspectSweep


def _offer() -> Offer:
    from wb.jobs.sweep.config import AspectConfig

    return Offer(AspectConfig)


@options(_offer)
def aspect(
    given: dict[str, Any],
    *,
    background: BackgroundOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The page to write; the record goes beside it.",
            show_default="a new folder in runs/",
        ),
    ] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare deep and wide networks: blocks against heads, at equal heads in all and at equal size.

    Every shape is trained with several seeds on texts, images or passages, and all are timed together. Interrupted, the same
    command with the same --out continues.
    """
    from wb.cli.frame import running
    from wb.data import load
    from wb.jobs.sweep.config import configured
    from wb.jobs.sweep.job import OUTPUT, begin, files_of

    config = configured(running.chosen(given, [], background))
    place = OUTPUT.place(out, [], files_of, force=force)

    def job(progress: Progress) -> AspectJob:
        data = load(config.data or "", image_size=config.image_size, limit=config.limit)
        return begin(config, data, place, progress, force=force)

    if not dry_run:
        running.run(job, _tell, as_json=as_json)
        return
    _plan(job, files_of(place), as_json=as_json)


def _plan(begin: Callable[[Progress], AspectJob], files: Sequence[Path], *, as_json: bool) -> None:
    """Prints the stages and about how long they take."""
    import time

    from wb.cli.frame import output, planning, running
    from wb.jobs.sweep.estimate import estimate
    from wb.training.estimate import data_stage

    start = time.perf_counter()
    with output.progress() as work:
        progress = running.telling(work, "reading the data")
        begun = begin(progress)
        read = time.perf_counter() - start
        progress("timing a few steps", 0, 0)
        found = [data_stage(begun.data, read), *estimate(begun)]
    planning.tell(found, files, as_json=as_json)


def _tell(record: AspectSweep) -> None:
    """Prints the shapes and the verdict."""
    from wb.cli.frame import output
    from wb.jobs.sweep.report import remarks, result, table

    output.data.print(output.table(table(record)._replace(lines=[])))
    output.data.print(result(record), soft_wrap=True)
    output.remarks(remarks(record))
