"""What `wb prune nvit` and `wb prune depth` share: reading, running, telling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli import _output
from wb.cli._read import read_model

if TYPE_CHECKING:
    from wb.compress.record import Config, Record
    from wb.core.readings import Reading


def config_of(
    method: str, settings: Mapping[str, Any], *, budget: Sequence[str] | None, snapshots: str | None, **given: Any
) -> Config:
    """The options of a command as a configuration.

    Raises:
        BadOption: a value that does not fit.
    """
    from pydantic import ValidationError

    from wb.compress.record import Config, parse_shares
    from wb.core.architecture import explain
    from wb.core.errors import BadOption
    from wb.data.spec import resolved

    given["data"] = resolved(given["data"])
    given |= {"method": method, "settings": settings, "budget": tuple(budget or ())}
    given["snapshots"] = parse_shares(snapshots) if snapshots else ()
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        raise BadOption(f"wrong option: {explain(error)}; see `wb prune {method} --help`") from error
    _ = config.limits
    return config


def run(config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool) -> None:
    """Prunes, writes models, record and report, and prints what came of it.

    Raises:
        BudgetMissed: the last readings are over a budget for sure; everything is written all the same.
        WbError: whatever is wrong with the model, the data, the options or the budget.
    """
    import torch

    from wb.compress.begin import begin
    from wb.data import load as load_data

    out = _place(config, file, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        data = load_data(config.data, image_size=config.image_size, limit=config.limit)
        model = read_model(file, data, config.settings.seed, progress, task)
        job = begin(config, model, str(file or "stock model"), data, out, report, force=force)
        with _output.resumable(job.work, out):
            record = job()
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
    else:
        _tell(record)
        for path in (
            out.with_suffix(".html"),
            out.with_suffix(".json"),
            *(out.parent / r.model for r in record.results),
        ):
            _output.written(path)
    _judge(record)


def _judge(record: Record) -> None:
    from wb.core.errors import BudgetMissed

    for result in record.results:
        if result.verdict == "within noise":
            _output.messages.print(
                f"{result.name}: the last readings are over {', '.join(result.limits)}, by less than their 95 % interval",
                markup=False,
                soft_wrap=True,
            )
    missed = [f"{result.name} ({', '.join(result.limits)})" for result in record.results if result.verdict == "missed"]
    if missed:
        raise BudgetMissed(
            f"the last readings are over the budget of {'; '.join(missed)}: the models are written, but a quieter machine or "
            "a lower budget is needed to be sure"
        )


def _place(config: Config, file: Path | None, out: Path | None, force: bool) -> Path:
    """Where the model goes, checked before any work."""
    from datetime import datetime

    from wb.compress.stages import name_of
    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.core.work import work_of

    if out is None:
        return Path("runs") / f"prune-{datetime.now():%Y%m%d-%H%M%S}" / "pruned.safetensors"
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    if file is not None and absolute(out) == absolute(file):
        raise BadOption(f"{out} is the model that is pruned; choose another name")
    if (work_of(out) / "record.json").exists():  # what is there may be half of the results to come
        return out
    shares = config.snapshots if config.budget else config.snapshots[:-1]
    snapshots = [out.with_stem(f"{out.stem}-{name_of(share)}") for share in shares]
    for path in (out, out.with_suffix(".json"), out.with_suffix(".html"), *snapshots):
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return out


def _tell(record: Record) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.compress.report import redistribution

    _output.data.print(_readings(record))
    for result in record.results:
        columns, rows = redistribution(record.architecture, result.architecture)
        table = Table(title=f"{result.name}: before → after", title_justify="left", box=SIMPLE)
        for column in columns:
            table.add_column(column, justify="left" if column in ("", "mixer") else "right")
        for row in rows:
            table.add_row(*row)
        _output.data.print(table)


def _readings(record: Record) -> Any:
    """One row per metric; columns for the dense model and for each pruned one before and after fine-tuning."""
    from rich.box import SIMPLE
    from rich.table import Table

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
    table.add_row("validation", *(readings["acc"].text().split(" ±")[0] for readings in models.values()))
    table.add_row("test", *("" if (test := tests.get(name)) is None else test.text().split(" ±")[0] for name in models))
    for metric in (name for name in ("latency", "macs", "params", "size", "energy") if name in record.dense_final):
        dense = record.dense_final[metric].value
        cells = [f"{readings[metric].text()}\n{readings[metric].value / dense:.3f}x" for readings in models.values()]
        table.add_row(f"{metric}\n{record.dense[metric].how}", *cells)
    return table
