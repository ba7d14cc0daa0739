"""The work of `wb exits`: options to configuration, run or plan, and output."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wb.cli.frame import output, planning, running
from wb.compress.exits.begin import OUTPUT, begin, files_of
from wb.compress.exits.config import configured
from wb.compress.exits.given import is_exiting, read
from wb.core.commands.progress import Progress
from wb.training.estimate import data_stage

if TYPE_CHECKING:
    from wb.compress.exits.job import ExitsJob
    from wb.compress.exits.record import EarlyExits


def exits(given: Mapping[str, Any], asked: running.Asked) -> None:
    """Adds exits, writes model, graph, record and report, and prints what came of it; or says what would be done.

    Raises:
        WbError: the model, the data or the options have a fault.
    """
    config = configured(given, exiting=is_exiting(asked.file))
    out = OUTPUT.place(asked.out, asked.files, files_of, force=asked.force)

    def job(progress: Progress) -> ExitsJob:
        model, data = read(config, asked.file, progress, output.say)
        return begin(config, model, asked.name, data, out, progress, force=asked.force)

    if not asked.dry_run:
        running.run(job, tell, as_json=asked.as_json)
        return
    from wb.compress.exits.estimate import estimate

    start = time.perf_counter()
    with output.progress() as work:
        begun = job(running.telling(work, "reading the data"))
        found = [data_stage(begun.data, time.perf_counter() - start), *estimate(begun)]
    planning.tell(found, files_of(out), as_json=asked.as_json)


def tell(record: EarlyExits) -> None:
    """Prints the ladder of betas, and what is to be said of it."""
    from wb.compress.exits.report import remarks, result, table

    shown = table(record)
    told = {remark.text for remark in remarks(record)}
    output.data.print(output.table(shown._replace(lines=[line for line in shown.lines if line not in told])))
    output.data.print(result(record), soft_wrap=True)
    output.remarks(remarks(record))
