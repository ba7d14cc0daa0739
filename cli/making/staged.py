"""The commands that change a model in stages: run or plan, and readings of the original and of every stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli.frame import output, running
from wb.compress.staged.record import StagedRecord
from wb.jobs.calls.shown import noted

if TYPE_CHECKING:
    from rich.table import Table

    from wb.core.commands.plan import Planned
    from wb.core.commands.progress import Progress
    from wb.core.measures.readings import Reading
    from wb.data import Dataset
    from wb.jobs.frame.job import Job
    from wb.jobs.frame.output import Output
    from wb.models.model import Model


def work(
    config: Any,
    asked: running.Asked,
    where: Output,
    files_of: Callable[[Path], list[Path]],
    begin: Callable[..., Job[Any]],
    planned: Callable[[Any], list[Planned]],
) -> None:
    """Does the job that `begin` returns and prints what came of it; or says what `planned` foresees.

    Raises:
        WbError: the model, the data or the options have a fault.
    """
    out = where.place(asked.out, asked.files, files_of, force=asked.force)

    def job(model: Model, data: Dataset, progress: Progress) -> Job[Any]:
        return begin(config, model, asked.name, data, out, progress, force=asked.force)

    if asked.dry_run:
        running.plan(config, config.seed, asked, lambda *given: planned(job(*given)), files_of(out))
        return
    running.run(
        lambda progress: job(*running.inputs(config, config.seed, asked, progress), progress),
        tell,
        as_json=asked.as_json,
    )


def tell(record: StagedRecord[Any]) -> None:
    """Prints what came of it."""
    from wb.compress.staged.report import remarks

    output.data.print(_readings(record))
    output.data.print(f"energy: {record.original['energy'].note}", markup=False, highlight=False, soft_wrap=True)
    validation: dict[str, Reading] = {
        "original": record.original[record.quality],
        **{stage.name: stage.after[record.quality] for stage in record.stages},
    }
    tests: dict[str, Reading | None] = {
        "original, test": record.original_test,
        f"{record.stages[-1].name}, test": record.final_test,
    }
    read = {name: reading for name, reading in {**validation, **tests}.items() if reading is not None}
    for line in noted(read.items()):
        output.data.print(line, markup=False, highlight=False, soft_wrap=True)
    output.remarks(remarks(record))


def _readings(record: StagedRecord[Any]) -> Table:
    """A table of readings: one row per metric, a column for the original and for each stage."""
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.compress.staged.report import COLUMNS
    from wb.core.measures.readings import ratio

    table = Table(title="readings", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in ("original", *(stage.name for stage in record.stages)):
        table.add_column(name, justify="right")

    quality = record.original[record.quality]
    if record.config.finetune:
        converted = [output.cell(stage.before[record.quality]) for stage in record.stages]
        table.add_row(output.row_title("as converted", quality), "", *converted)
    models = [record.original, *(stage.after for stage in record.stages)]
    table.add_row(
        output.row_title("validation", quality), *(output.cell(readings[record.quality]) for readings in models)
    )
    between = [""] * (len(record.stages) - 1)
    tests = ["" if one is None else output.cell(one) for one in (record.original_test, record.final_test)]
    table.add_row(output.row_title("test", quality), tests[0], *between, tests[1])
    for metric in (name for name in COLUMNS if name in record.original):
        before = record.original[metric]
        cells = [f"{readings[metric].text()}\n{ratio(readings[metric], before).plain()}" for readings in models]
        table.add_row(f"{metric}\n{before.how}", *cells)
    return table
