"""The work of `wb binarize`: options to configuration, run or plan, and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wb.cli.frame import output, running
from wb.compress.binarize.begin import OUTPUT, begin, configured, files_of
from wb.compress.binarize.job import BinarizeJob
from wb.compress.binarize.record import Binarization
from wb.core.commands.progress import Progress
from wb.jobs.calls.shown import noted

if TYPE_CHECKING:
    from rich.table import Table

    from wb.core.commands.plan import Planned
    from wb.core.measures.readings import Reading
    from wb.data import Dataset
    from wb.models.model import Model


def binarize(given: Mapping[str, Any], asked: running.Asked) -> None:
    """Binarizes, writes model, graph, record and report, and prints what came of it; or says what would be done.

    Raises:
        WbError: the model, the data or the options have a fault.
    """
    config = configured(given)
    out = OUTPUT.place(asked.out, asked.files, files_of, force=asked.force)

    def job(model: Model, data: Dataset, progress: Progress) -> BinarizeJob:
        return begin(config, model, asked.name, data, out, progress, force=asked.force)

    def planned(model: Model, data: Dataset, progress: Progress) -> list[Planned]:
        from wb.compress.binarize.estimate import estimate

        return estimate(job(model, data, progress))

    if asked.dry_run:
        running.plan(config, config.seed, asked, planned, files_of(out))
        return
    running.run(
        lambda progress: job(*running.inputs(config, config.seed, asked, progress), progress),
        _tell,
        as_json=asked.as_json,
    )


def _tell(record: Binarization) -> None:
    from wb.compress.binarize.report import remarks

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


def _readings(record: Binarization) -> Table:
    """A table of readings: one row per metric, a column for the original and for each stage."""
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.core.measures.readings import ratio

    table = Table(title="readings", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in ("original", *(stage.name for stage in record.stages)):
        table.add_column(name, justify="right")

    if record.config.finetune:
        converted = [output.cell(stage.before[record.quality]) for stage in record.stages]
        table.add_row("as converted\n± points", "", *converted)
    models = [record.original, *(stage.after for stage in record.stages)]
    table.add_row("validation\n± points", *(output.cell(readings[record.quality]) for readings in models))
    between = [""] * (len(record.stages) - 1)
    tests = ["" if one is None else output.cell(one) for one in (record.original_test, record.final_test)]
    table.add_row("test\n± points", tests[0], *between, tests[1])
    for metric in ("size", "latency", "energy", "macs", "params"):
        before = record.original[metric]
        cells = [f"{readings[metric].text()}\n{ratio(readings[metric], before).plain()}" for readings in models]
        table.add_row(f"{metric}\n{before.how}", *cells)
    return table
