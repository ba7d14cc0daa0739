"""The work that `wb prune nvit` and `wb prune depth` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wb.cli.frame import output, running
from wb.compress.prune.begin import OUTPUT, begin, files_of
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.job import PruneJob
from wb.compress.prune.record import Pruning
from wb.core.commands.progress import Progress
from wb.jobs.calls.shown import noted

if TYPE_CHECKING:
    from rich.console import Group

    from wb.core.commands.plan import Planned
    from wb.core.measures.readings import Reading
    from wb.data import Dataset
    from wb.models.model import Model


def prune(config: PruneConfig, asked: running.Asked) -> None:
    """Prunes, writes models, record and report, and prints what came of it; or says what would be done.

    Raises:
        BudgetMissed: the last readings are over a budget for sure; everything is written all the same.
        WbError: whatever is wrong with the model, the data or the budget.
    """
    seed = config.settings.seed
    out = OUTPUT.place(asked.out, asked.files, lambda out: files_of(config, out), force=asked.force)

    def job(model: Model, data: Dataset, progress: Progress) -> PruneJob:
        return begin(config, model, asked.name, data, out, progress, force=asked.force)

    def planned(model: Model, data: Dataset, progress: Progress) -> list[Planned]:
        from wb.compress.prune.estimate import estimate

        return estimate(job(model, data, progress))

    if asked.dry_run:
        running.plan(config, seed, asked, planned, files_of(config, out))
        return
    record = running.run(
        lambda progress: job(*running.inputs(config, seed, asked, progress), progress), _tell, as_json=asked.as_json
    )
    record.check_budget()


def _tell(record: Pruning) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.compress.prune.report import redistribution

    output.data.print(_readings(record))
    for result in record.results:
        columns, rows = redistribution(record.architecture, result.architecture)
        table = Table(title=f"{result.name}: before → after", title_justify="left", box=SIMPLE)
        for column in columns:
            table.add_column(column, justify="left" if column in ("", "mixer") else "right")
        for row in rows:
            table.add_row(*row)
        output.data.print(table)
    output.remarks(record.remarks)


def _readings(record: Pruning) -> Group:
    """A table of readings: one row per metric; columns for the dense model and each pruned one before and after fine-tuning."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.jobs.frame.shares import COLUMNS, shares

    models: dict[str, Mapping[str, Reading]] = {"dense": record.dense_final}
    tests = {"dense": record.dense_test}
    for result in record.results:
        last = "fine-tuned" if record.config.finetune and not result.discarded else "final"
        models |= {f"{result.name}\ncut": {**result.after, **result.before}, f"{result.name}\n{last}": result.after}
        tests[f"{result.name}\n{last}"] = result.test
    table = Table(title="readings", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in models:
        table.add_column(name, justify="right")
    qualities = [readings[record.quality] for readings in models.values()]
    tested = ["" if (test := tests.get(name)) is None else output.cell(test) for name in models]
    table.add_row(output.row_title("validation", qualities[0]), *map(output.cell, qualities))
    table.add_row(output.row_title("test", qualities[0]), *tested)
    found = {name: shares(readings, record.dense_final) for name, readings in models.items()}
    for metric in (name for name in COLUMNS if name in record.dense_final):
        cells = [f"{readings[metric].text()}\n{found[name][metric].plain()}" for name, readings in models.items()]
        table.add_row(f"{metric}\n{record.dense_final[metric].how}", *cells)
    read = [(f"{name}, validation", readings[record.quality]) for name, readings in models.items()]
    read += [(f"{name}, test", reading) for name, reading in tests.items() if reading is not None]
    said = noted((name.replace("\n", " "), reading) for name, reading in read)
    return Group(table, *(Text(line) for line in said))
