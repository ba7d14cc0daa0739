"""What `wb prune nvit` and `wb prune depth` share: reading, running, telling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli import _output

if TYPE_CHECKING:
    from rich.progress import Progress

    from wb.compress.record import Config, Record
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

    from wb.compress.record import Config, parse_shares
    from wb.core.architecture import explain
    from wb.core.errors import BadOption

    form, colon, place = given["data"].partition(":")
    if colon:
        given["data"] = f"{form}:{Path(place).expanduser().resolve()}"
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
        BudgetMissed: the last readings are over a budget; everything is written all the same.
        WbError: whatever is wrong with the model, the data, the options or the budget.
    """
    import torch

    from wb.compress.begin import begin
    from wb.compress.report import write_report
    from wb.core.errors import BudgetMissed
    from wb.data import load as load_data

    out = _place(config, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        data = load_data(config.data, image_size=config.image_size, limit=config.limit)
        model = _model(file, data, config.settings.seed, progress, task)
        job = begin(config, model, str(file or "stock model"), data, out, report, force=force)
        try:
            record = job()
        except BaseException:
            with suppress(OSError):
                out.parent.rmdir()  # if it is empty: nothing was begun
            if job.work.exists():  # not after an error that would only come again
                _output.messages.print(
                    f"what is done is in {job.work}; the same command with -o {out} continues",
                    markup=False,
                    soft_wrap=True,
                )
            raise
        page = write_report(record, job.record_path, out.with_suffix(".html"), force=job.force)
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
    else:
        _tell(record)
        _output.written(page)
        for result in record.results:
            _output.written(out.parent / result.model)
    missed = [f"{result.name} ({', '.join(result.limits)})" for result in record.results if not result.met]
    if missed:
        raise BudgetMissed(
            f"the last readings are over the budget of {'; '.join(missed)}: the models are written, but a "
            "quieter machine or a lower budget is needed to be sure"
        )


def _place(config: Config, out: Path | None, force: bool) -> Path:
    """Where the model goes, checked before any work."""
    from datetime import datetime

    from wb.compress.stages import name_of
    from wb.core.errors import BadOption

    if out is None:
        return Path("runs") / f"prune-{datetime.now():%Y%m%d-%H%M%S}" / "pruned.safetensors"
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    if out.with_name(f"{out.stem}.partial").exists():  # what is there may be half of the results to come
        return out
    snapshots = [out.with_stem(f"{out.stem}-{name_of(share)}") for share in config.snapshots]
    for path in (out, out.with_suffix(".json"), out.with_suffix(".html"), *snapshots):
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return out


def _model(file: Path | None, data: Dataset, seed: int, progress: Progress, task: Any) -> Model:
    from wb.models.model import load
    from wb.spaces.stock import Stock

    if file is not None:
        return load(file)

    def report(epoch: int, of: int, loss: float) -> None:
        progress.update(task, description=f"training the stock model, loss {loss:.3f}", completed=epoch, total=of)

    return Stock(data, seed)(report)


def _tell(record: Record) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    _output.data.print(_readings(record))
    table = Table(title="redistribution: before -> after", title_justify="left", box=SIMPLE)
    for column in ("block", "heads", "qk", "v", "mlp"):
        table.add_column(column, justify="left" if column == "block" else "right")
    last = record.results[-1].architecture
    for i, (stage, after_stage) in enumerate(zip(record.architecture.stages, last.stages, strict=True)):
        table.add_row(f"s{i}.embed", f"{stage.embed} -> {after_stage.embed}", "", "", "")
    after = {name: block for name, _, block in last.blocks()}
    for name, _, block in record.architecture.blocks():
        cells = []
        for part, axis in (("mixer", "heads"), ("mixer", "qk"), ("mixer", "v"), ("ffn", "mlp")):
            was, now = (getattr(getattr(b, part), axis, None) for b in (block, after[name]))
            cells.append("-" if was is None else f"{was} -> {now or 'gone'}")
        table.add_row(name, *cells)
    _output.data.print(table)


def _readings(record: Record) -> Any:
    """One row per metric; columns for the dense model and for each pruned one before and after fine-tuning."""
    from rich.box import SIMPLE
    from rich.table import Table

    models: dict[str, Mapping[str, Reading]] = {"dense": record.dense}
    tests = {"dense": record.dense_test}
    last = "fine-tuned" if record.config.finetune else "final"
    for result in record.results:
        models |= {f"{result.name}\ncut": result.before, f"{result.name}\n{last}": result.after}
        tests[f"{result.name}\n{last}"] = result.test
    table = Table(title="readings", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in models:
        table.add_column(name, justify="right")
    table.add_row("validation", *(readings["acc"].text().split(" ±")[0] for readings in models.values()))
    table.add_row("test", *("" if (test := tests.get(name)) is None else test.text().split(" ±")[0] for name in models))
    for metric in ("latency", "macs", "params", "size"):
        dense = record.dense[metric].value
        cells = [f"{readings[metric].text()}\n{readings[metric].value / dense:.3f}x" for readings in models.values()]
        table.add_row(f"{metric}\n{record.dense[metric].how}", *cells)
    return table
