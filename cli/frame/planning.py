"""Parts of every `--dry-run`: the option, reading the model, and printing the plan."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli.frame import output

if TYPE_CHECKING:
    from wb.core.commands.plan import Planned
    from wb.data import Dataset
    from wb.jobs.inputs import Choice
    from wb.models.model import Model

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan, its files and about how long it takes; write nothing.")
]


def model_of(file: Path | None, data: Dataset, seed: int) -> tuple[Model, list[Planned]]:
    """The model in `file`, or the stock model; a stock model not in the cache is planned but not trained.

    Raises:
        BadArtefact: the file cannot be read or is no model.
    """
    from wb.core.errors import BadArtefact
    from wb.foreign.reading import load
    from wb.models.model import from_network
    from wb.models.network import build
    from wb.spaces.stock import RECIPE, Stock
    from wb.training.estimate import training_stage

    if file is not None:
        return load(file), []
    stock = Stock(data, seed)
    with suppress(BadArtefact):  # the file is missing or damaged
        kept = load(stock.path)
        if kept.architecture == stock.architecture:
            return kept, []
    network = build(stock.architecture)
    network.reset()
    trained = training_stage("stock model", stock.architecture, data, RECIPE, teacher=False)
    return from_network(stock.architecture, network), [trained._replace(what=f"{trained.what}, once, and kept")]


def read(file: Path | None, choice: Choice, seed: int, *, by_index: bool) -> tuple[Model, Dataset, list[Planned]]:
    """As `wb.jobs.reading.read`, but without training a stock model; and the stages of reading and training.

    Raises:
        WbError: as the command does for this model and these data.
    """
    import time

    from wb.data import load as load_data
    from wb.jobs.inputs import STOCK
    from wb.jobs.reading import taken
    from wb.tasks.suited import fitted
    from wb.training.estimate import data_stage

    start = time.perf_counter()
    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit, own_words=False)
    first = data_stage(data, time.perf_counter() - start)
    model, trained = model_of(file, data, seed)
    name = str(file or "the stock model")
    data, notes = fitted(taken(data, model.architecture, model.history), model.architecture, name, by_index=by_index)
    for note in notes:
        output.say(note)
    return model, data, [first, *trained]


def tell(stages: Sequence[Planned], files: Sequence[Path], *, as_json: bool) -> None:
    """Prints the stages with their times, and the files that would be written."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from wb.core.system.durations import duration

    whole = sum(stage.seconds for stage in stages)
    if as_json:
        content = {"stages": [stage._asdict() for stage in stages], "seconds": whole, "files": list(map(str, files))}
        output.print_json(content)
        return
    table = Table(title="what would be done (nothing is written)", title_justify="left", box=SIMPLE)
    for column in ("stage", "what", "about"):
        table.add_column(column, overflow="fold")
    for stage in stages:
        table.add_row(stage.name, Text(stage.what), duration(stage.seconds) if stage.seconds else "")
    table.add_row("in all", "times are predicted from a few timed steps", duration(whole), style="bold")
    output.data.print(table)
    for path in files:
        output.data.print(f"would write {path}", markup=False, highlight=False, soft_wrap=True)
