"""What `wb binarize` does: reading its options, running, telling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli import _output
from wb.cli._data import Choice, read

if TYPE_CHECKING:
    from rich.table import Table

    from wb.compress.binarize.job import Report
    from wb.compress.binarize.record import Config, Record
    from wb.core.plan import Planned
    from wb.core.readings import Reading
    from wb.data import Dataset
    from wb.models.model import Model


def config_of(hashing: Mapping[str, Any], **given: Any) -> Config:
    """The options of the command as a configuration; `hashing` has those of hash attention, None where not given.

    Raises:
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    from pydantic import ValidationError

    from wb.compress.binarize.record import Config
    from wb.core.architecture import explain
    from wb.core.errors import BadOption

    hashing = {name: value for name, value in hashing.items() if value is not None}
    if hashing and given["attention"] != "hash":
        raise BadOption(f"--{next(iter(hashing))} is of hash attention; add --attention hash")
    if given["weights"] == "keep" and (given["keep"] or given["head"]):
        raise BadOption("--keep and --all choose which weights are rounded, but with --weights keep none are")
    try:
        return Config.model_validate({**given, **hashing})
    except ValidationError as error:
        raise BadOption(f"wrong option: {explain(error)}; see `wb binarize --help`") from error


def plan(config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool) -> None:
    """Says what `run` would do and how long that takes.

    Raises:
        WbError: what `run` would refuse before it begins.
    """
    from wb.cli._dry_run import show
    from wb.compress.binarize.begin import begin
    from wb.compress.binarize.estimate import estimate

    place = _place(file, out, force)

    def stages(model: Model, data: Dataset, report: Report) -> list[Planned]:
        return estimate(begin(config, model, str(file or "stock model"), data, place, report, force=force))

    show(config, config.seed, file, stages, _files(place), as_json=as_json)


def run(config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool) -> None:
    """Binarizes, writes model, graph, record and report, and prints what came of it.

    Raises:
        WbError: whatever is wrong with the model, the data or the options.
    """
    import torch

    from wb.compress.binarize.begin import begin

    out = _place(file, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        choice = Choice(config.data, config.image_size, config.limit)
        model, data = read(file, choice, config.seed, progress, task, by_index=config.by_index)
        job = begin(config, model, str(file or "stock model"), data, out, report, force=force)
        with _output.resumable(job.work, _output.continues(job.work, out)):
            record = job()
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
    else:
        _tell(record)
        for path in _files(out):
            _output.written(path)


def _place(file: Path | None, out: Path | None, force: bool) -> Path:
    """Where the model goes, checked before any work."""
    from datetime import datetime

    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.jobs.work import work_of

    if out is None:
        return Path("runs") / f"binarize-{datetime.now():%Y%m%d-%H%M%S}" / "binarized.safetensors"
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    if file is not None and absolute(out) == absolute(file):
        raise BadOption(f"{out} is the model that is binarized; choose another name")
    if (work_of(out) / "record.json").exists():  # what is there may be half of the results to come
        return out
    for path in _files(out):
        if path.is_dir():
            raise BadOption(f"{path} is a folder; choose another name")
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return out


def _files(out: Path) -> list[Path]:
    """What is written."""
    return [out.with_suffix(ending) for ending in (".html", ".json", ".onnx", out.suffix)]


def _tell(record: Record) -> None:
    from wb.compress.binarize.report import remarks

    _output.data.print(_readings(record))
    _output.data.print(f"energy: {record.original['energy'].note}", markup=False, highlight=False, soft_wrap=True)
    accuracies: dict[str, Reading] = {
        "original": record.original["acc"],
        **{stage.name: stage.after["acc"] for stage in record.stages},
    }
    tests: dict[str, Reading | None] = {
        "original, test": record.original_test,
        f"{record.stages[-1].name}, test": record.final_test,
    }
    read = {name: reading for name, reading in {**accuracies, **tests}.items() if reading is not None}
    for line in _output.notes(read.items()):
        _output.data.print(line, markup=False, highlight=False, soft_wrap=True)
    _output.remarks(remarks(record))


def _readings(record: Record) -> Table:
    """One row per metric; a column for the original and for each stage."""
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.core.readings import ratio

    table = Table(title="readings", title_justify="left", box=SIMPLE)
    table.add_column("")
    for name in ("original", *(stage.name for stage in record.stages)):
        table.add_column(name, justify="right")

    if record.config.finetune:
        table.add_row("as converted\n± points", "", *(_output.cell(stage.before["acc"]) for stage in record.stages))
    models = [record.original, *(stage.after for stage in record.stages)]
    table.add_row("validation\n± points", *(_output.cell(readings["acc"]) for readings in models))
    between = [""] * (len(record.stages) - 1)
    tests = ["" if one is None else _output.cell(one) for one in (record.original_test, record.final_test)]
    table.add_row("test\n± points", tests[0], *between, tests[1])
    for metric in ("size", "latency", "energy", "macs", "params"):
        before = record.original[metric]
        cells = [f"{readings[metric].text()}\n{ratio(readings[metric], before).plain()}" for readings in models]
        table.add_row(f"{metric}\n{before.how}", *cells)
    return table
