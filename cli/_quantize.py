"""What `wb quantize` does: reading its options, running, telling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli import _output
from wb.cli._read import read_model

if TYPE_CHECKING:
    from rich.table import Table

    from wb.quantization.quantize_record import Config, Record


def config_of(file: Path | None, **given: Any) -> Config:
    """The options of the command as a configuration; those that are None have not been given.

    Raises:
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    from pydantic import ValidationError

    from wb.core.architecture import explain
    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.data.spec import WHITE, colour, resolved
    from wb.quantization.quantize_record import Config

    foreign = file is not None and file.suffix == ".onnx"
    if foreign and given["data"] is None and given["image_size"] is not None:
        raise BadOption("--image-size is of no use without data; name some with --data")
    if given["data"] is None and not foreign:
        given["data"] = "digits"
    given["data"] = given["data"] and resolved(given["data"])
    if given["calibration"] is not None:
        given["calibration"] = str(absolute(given["calibration"]))
    given["background"] = colour(given["background"] or WHITE)
    calibrated = given["policy"] in ("int8", "mixed")
    if given["calib"] is not None and not calibrated and (given["data"] or given["calibration"]) and not foreign:
        raise BadOption(f"--calib is of no use: --policy {given['policy']} needs no calibration; leave it out")
    if given["calib"] is None:
        del given["calib"]
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        raise BadOption(f"wrong option: {explain(error)}; see `wb quantize --help`") from error
    _ = config.limits
    return config


def run(config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool) -> None:
    """Quantizes, writes graph, model, record and report, and prints what came of it.

    Raises:
        BudgetMissed: nothing was written.
        WbError: whatever is wrong with the model, the data or the options.
    """
    import torch

    from wb.data import load as load_data
    from wb.quantization.quantize_begin import Given, begin

    out = _place(config, file, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        data = None if config.data is None else load_data(config.data, image_size=config.image_size)
        if file is not None and file.suffix == ".onnx":
            given = Given(str(file), path=file)
        elif data is not None:
            given = Given(str(file or "stock model"), read_model(file, data, config.seed, progress, task))
        job = begin(config, given, data, out, report, force=force)
        with _output.resumable(job.work, out):
            record = job()
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
        return
    _tell(record)
    for name in (out.with_suffix(".html").name, out.with_suffix(".json").name, record.model, record.graph):
        if name is not None:
            _output.written(out.parent / name)


def _place(config: Config, file: Path | None, out: Path | None, force: bool) -> Path:
    """Where the graph goes, checked before any work."""
    from datetime import datetime

    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.core.work import work_of

    if out is None:
        return Path("runs") / f"quantize-{datetime.now():%Y%m%d-%H%M%S}" / "quantized.onnx"
    if out.suffix != ".onnx":
        raise BadOption(f"{out.name} is no name for an ONNX graph; end it in .onnx")
    foreign = file is not None and file.suffix == ".onnx"
    endings = (".onnx", ".json", ".html", *(() if foreign or config.policy == "int8" else (".safetensors",)))
    written = [out.with_suffix(ending) for ending in endings]
    for path in written:
        if file is not None and absolute(path) == absolute(file):
            raise BadOption(f"{path} is the model that is quantized, and would be written; choose another name")
    if (work_of(out) / "record.json").exists():  # what is there may be half of the results to come
        return out
    for path in written:
        if path.is_dir():
            raise BadOption(f"{path} is a folder; choose another name")
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return out


def _tell(record: Record) -> None:
    from wb.quantization.quantize_report import error_text, kept, reasons
    from wb.quantization.quantize_verdict import verdict

    _output.data.print(_readings(record))
    lines = [f"groups: {kept(record)}", f"output error: {error_text(record)}"]
    for why, names in reasons(record).items():
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        lines.append(f"in fp32, {why}: {shown}")
    notes = {f"{name}: {r.note}" for name, r in record.quantized.items() if r.note is not None}
    for line in (*lines, *sorted(notes), *record.notes):
        _output.data.print(line, markup=False, highlight=False, soft_wrap=True)
    _output.data.print(verdict(record), style="bold", markup=False, highlight=False, soft_wrap=True)


def _readings(record: Record) -> Table:
    """One row per metric: float, quantized, and the change."""
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.quantization.quantize_report import COLUMNS, changes

    table = Table(title=f"{record.config.policy} of {record.source}", title_justify="left", box=SIMPLE)
    for column in ("", "float", "quantized", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name, change in changes(record).items():
        before, after = record.floating[name], record.quantized[name]
        table.add_row(f"{COLUMNS[name]}\n{after.how}", before.text(), after.text(), change.replace(" (", "\n("))
    return table
