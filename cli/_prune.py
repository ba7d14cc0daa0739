"""What `wb prune nvit` and `wb prune depth` share: reading, running, telling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli import _output
from wb.cli._data import Choice, read

if TYPE_CHECKING:
    from rich.console import Group

    from wb.compress.prune.job import Report
    from wb.compress.prune.record import Config, Record
    from wb.core.plan import Planned
    from wb.core.readings import Reading
    from wb.data import Dataset
    from wb.models.model import Model


def config_of(
    method: str, settings: Mapping[str, Any], *, budget: Sequence[str] | None, snapshots: str | None, **given: Any
) -> Config:
    """The options of a command as a configuration.

    Raises:
        BadOption: a value that does not fit.
    """
    from pydantic import ValidationError

    from wb.compress.prune.record import Config, parse_shares
    from wb.core.architecture import explain
    from wb.core.errors import BadOption

    given |= {"method": method, "settings": settings, "budget": tuple(budget or ())}
    given["snapshots"] = parse_shares(snapshots) if snapshots else ()
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        raise BadOption(f"wrong option: {explain(error)}; see `wb prune {method} --help`") from error
    _ = config.limits
    return config


def plan(config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool) -> None:
    """Says what `run` would do and how long that takes.

    Raises:
        WbError: what `run` would refuse before it begins.
    """
    from wb.cli._dry_run import show
    from wb.compress.prune.begin import begin
    from wb.compress.prune.estimate import estimate

    place = _place(config, file, out, force)

    def stages(model: Model, data: Dataset, report: Report) -> list[Planned]:
        return estimate(begin(config, model, str(file or "stock model"), data, place, report, force=force))

    show(config, config.settings.seed, file, stages, _files(config, place), as_json=as_json)


def run(config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool) -> None:
    """Prunes, writes models, record and report, and prints what came of it.

    Raises:
        BudgetMissed: the last readings are over a budget for sure; everything is written all the same.
        WbError: whatever is wrong with the model, the data, the options or the budget.
    """
    import torch

    from wb.compress.prune.begin import begin

    out = _place(config, file, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        choice = Choice(config.data, config.image_size, config.limit)
        model, data = read(file, choice, config.settings.seed, progress, task, by_index=config.by_index)
        job = begin(config, model, str(file or "stock model"), data, out, report, force=force)
        with _output.resumable(job.work, _output.continues(job.work, out)):
            record = job()
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
    else:
        _tell(record)
        written = [file for r in record.results for file in (r.graph, r.model) if file is not None]
        for path in (out.with_suffix(".html"), out.with_suffix(".json"), *(out.parent / file for file in written)):
            _output.written(path)
    _check_budget(record)


def _check_budget(record: Record) -> None:
    """Raises `BudgetMissed` where the last model is over a budget for sure; models on the way are no failure."""
    from wb.core.errors import BudgetMissed

    last = record.results[-1]
    if last.verdict == "missed":
        raise BudgetMissed(
            f"the budget of {last.name} is missed: {last.reason}. The models are written, but a quieter machine or a lower "
            "budget is needed to be sure"
        )


def _place(config: Config, file: Path | None, out: Path | None, force: bool) -> Path:
    """Where the model goes, checked before any work."""
    from datetime import datetime

    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.jobs.work import work_of

    if out is None:
        return Path("runs") / f"prune-{datetime.now():%Y%m%d-%H%M%S}" / "pruned.safetensors"
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    if file is not None and absolute(out) == absolute(file):
        raise BadOption(f"{out} is the model that is pruned; choose another name")
    if (work_of(out) / "record.json").exists():  # what is there may be half of the results to come
        return out
    for path in _files(config, out):
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return out


def _files(config: Config, out: Path) -> list[Path]:
    """What is written."""
    from wb.compress.prune.stages import name_of

    shares = config.snapshots if config.budget else config.snapshots[:-1]
    models = [*(out.with_stem(f"{out.stem}-{name_of(share)}") for share in shares), out]
    ends = [out.with_suffix(".html"), out.with_suffix(".json")]
    return [*ends, *(path for model in models for path in (model.with_suffix(".onnx"), model))]


def _tell(record: Record) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.compress.prune.report import redistribution

    _output.data.print(_readings(record))
    for result in record.results:
        columns, rows = redistribution(record.architecture, result.architecture)
        table = Table(title=f"{result.name}: before → after", title_justify="left", box=SIMPLE)
        for column in columns:
            table.add_column(column, justify="left" if column in ("", "mixer") else "right")
        for row in rows:
            table.add_row(*row)
        _output.data.print(table)
    _output.remarks(record.remarks)


def _readings(record: Record) -> Group:
    """One row per metric; columns for the dense model and for each pruned one before and after fine-tuning."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.compress.prune.report import shares

    models: dict[str, Mapping[str, Reading]] = {"dense": record.dense_final}
    tests = {"dense": record.dense_test}
    last = "fine-tuned" if record.config.finetune else "final"
    for result in record.results:
        models |= {f"{result.name}\ncut": {**result.after, **result.before}, f"{result.name}\n{last}": result.after}
        tests[f"{result.name}\n{last}"] = result.test
    table = Table(title="readings", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in models:
        table.add_column(name, justify="right")
    table.add_row("validation\n± points", *(_output.cell(readings["acc"]) for readings in models.values()))
    table.add_row(
        "test\n± points", *("" if (test := tests.get(name)) is None else _output.cell(test) for name in models)
    )
    found = {name: shares(record, readings) for name, readings in models.items()}
    for metric in (name for name in ("latency", "macs", "params", "size", "energy") if name in record.dense_final):
        cells = [f"{readings[metric].text()}\n{found[name][metric].plain()}" for name, readings in models.items()]
        table.add_row(f"{metric}\n{record.dense_final[metric].how}", *cells)
    accuracies = [(f"{name}, validation", readings["acc"]) for name, readings in models.items()]
    accuracies += [(f"{name}, test", reading) for name, reading in tests.items() if reading is not None]
    said = _output.notes((name.replace("\n", " "), reading) for name, reading in accuracies)
    return Group(table, *(Text(line) for line in said))
