"""The work of `wb search --from`: options to configuration, run or plan, and output."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli.frame import output, running
from wb.core.commands.option import option_of
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.search.trained.begin import begin, place
from wb.search.trained.config import TrainedConfig, configured
from wb.search.trained.job import TrainedJob
from wb.search.trained.record import TrainedSearch

if TYPE_CHECKING:
    from wb.core.commands.plan import Planned
    from wb.data import Dataset
    from wb.models.model import Model


_OWN = (
    "front",
    "calibration",
    "alternatives",
    "distil",
    "mixers",
    "align",
    "learning_rate",
    "by_index",
)  # fields that other searches do not have


def check_alone(own: Mapping[str, Any], *, supernet: bool) -> None:
    """Raises `BadOption` for options of a search from a model without a supernet that are given with one."""
    name = next((name for name, value in own.items() if value is not None), None)
    if supernet and name is not None:
        raise BadOption(
            f"{option_of(TrainedConfig, name)} is of a search --from without a supernet; leave --supernet out"
        )


def search_from(
    given: Mapping[str, Any],
    model: Path | None,
    out: Path | None,
    background: str | None,
    others: Mapping[str, bool],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Searches from the model in a file, and prints what came of it; or says what would be done.

    `others` are options of searches with a supernet, and whether each is given.

    Raises:
        BadOption: options of the other kind of search.
        BudgetMissed: a network is over its budget for sure; everything is written all the same.
        WbError: whatever is wrong with the model, the data or the budgets.
    """
    typed = {name: value for name, value in given.items() if value is not None}
    if model is None:
        name = next(name for name in _OWN if name in typed)
        raise BadOption(f"{option_of(TrainedConfig, name)} is of a search from a trained model; say which with --from")
    for option in (option for option, there in others.items() if there):
        raise BadOption(
            f"{option} is of searches with a supernet; a search --from is continued by the same command with --out"
        )
    config = configured(running.chosen(typed, [model], background))
    page = place(out, [model])
    asked = running.Asked(model, page, False, dry_run, as_json)

    def job(network: Model, data: Dataset, progress: Progress) -> TrainedJob:
        return begin(config, network, asked.name, data, page, progress)

    def planned(network: Model, data: Dataset, progress: Progress) -> list[Planned]:
        from wb.search.trained.estimate import estimate

        return estimate(job(network, data, progress))

    if dry_run:
        running.plan(config, config.seed, asked, planned, [page, page.with_suffix(".json")])
        return
    how = f"the same command with --out {shlex.quote(str(page.parent))} continues"
    record = running.run(
        lambda progress: job(*running.inputs(config, config.seed, asked, progress), progress),
        _tell,
        as_json=as_json,
        how=how,
    )
    record.check_budget()


def supernet_from(given: Mapping[str, Any], file: Path | None, resume: Path | None) -> tuple[dict[str, Any], Model]:
    """The options of a search whose supernet starts from the model in a file, and that model.

    Raises:
        BadOption: there is no model, or there can be no such supernet.
    """
    from wb.foreign.reading import load
    from wb.search.trained.start import started

    if resume is not None:
        raise BadOption("--resume continues with what is in its folder; leave --from and --supernet out")
    if file is None:
        raise BadOption("--supernet starts from a trained model; say which with --from, or leave it out")
    chosen = running.chosen({"data": None, **given}, [file], None)
    typed = {name: value for name, value in chosen.items() if value is not None}
    model = load(file)
    return started(typed, model), model


def _tell(record: TrainedSearch) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.search.trained.report import agreement_text, alternatives, divergences, table

    output.data.print(output.table(table(record)._replace(lines=[])))
    for title, (columns, rows) in (("chosen", alternatives(record)), ("divergence in nats", divergences(record))):
        drawn = Table(title=title, title_justify="left", box=SIMPLE)
        for number, column in enumerate(columns):
            drawn.add_column(column, justify="right" if number else "left")
        for row in rows:
            drawn.add_row(*row)
        output.data.print(drawn)
    output.data.print(agreement_text(record), markup=False, highlight=False, soft_wrap=True)
    output.remarks(record.remarks)
