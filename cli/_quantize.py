"""What `wb quantize` does: reading its options, running, telling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli import _output
from wb.cli._data import Choice, read, read_data
from wb.cli._images import OPTIONS, of_graph, refuse_for_ours
from wb.cli._kinds import need

if TYPE_CHECKING:
    from rich.table import Table

    from wb.compress.quantize.begin import Given
    from wb.compress.quantize.record import Config, Record
    from wb.data import Dataset
    from wb.data.preparation import Preparation


def config_of(file: Path | None, **given: Any) -> Config:
    """The options of the command as a configuration; those that are None have not been given.

    Raises:
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    from pydantic import ValidationError

    from wb.compress.quantize.record import Config
    from wb.core.architecture import explain
    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.data.spec import WHITE, colour

    foreign = file is not None and file.suffix == ".onnx"
    for name in ("image_size", "by_index"):
        if given["data"] is None and given[name]:
            raise BadOption(f"--{name.replace('_', '-')} is of no use without data; name some with --data")
    shown = given["data"] is not None or (given["calibration"] is not None and given["calibration"].is_dir())
    given["images"] = _images(file, given["images"], shown=shown)
    if given["calibration"] is not None:
        need(
            absolute(given["calibration"]),
            "pictures",
            "folder",
            "arrays",
            expected="a folder of images, .npy or .npz",
        )
        given["calibration"] = str(absolute(given["calibration"]))
    given["background"] = colour(given["background"] or WHITE)
    calibrated = given["policy"] in ("int8", "mixed")
    if given["calib"] is not None and not calibrated and (given["data"] or given["calibration"]) and not foreign:
        raise BadOption(f"--samples is of no use: --policy {given['policy']} needs no calibration; leave it out")
    if given["calib"] is None:
        del given["calib"]
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        raise BadOption(f"wrong option: {explain(error)}; see `wb quantize --help`") from error
    _ = config.limits
    return config


def plan(
    config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool, run_limit: float | None = None
) -> None:
    """Says what `run` would do and how long that takes.

    Raises:
        WbError: what `run` would refuse before it begins.
    """
    import time

    import torch

    from wb.cli import _dry_run
    from wb.compress.quantize.begin import Given, begin
    from wb.compress.quantize.estimate import estimate
    from wb.training.estimate import data_stage

    place = _place(config, file, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        start = time.perf_counter()
        data: Dataset | None
        if file is not None and file.suffix == ".onnx":
            given, data = _foreign(config, file, run_limit)
            stages = [] if data is None else [data_stage(data, time.perf_counter() - start)]
        else:
            choice = Choice(config.data, config.image_size, config.limit)
            model, data, stages = _dry_run.read(file, choice, config.seed, by_index=config.by_index)
            given = Given(str(file or "stock model"), model)
        stages += estimate(begin(config, given, data, place, report, force=force))
    _dry_run.tell(stages, _files(config, file, place), as_json=as_json)


def _images(file: Path | None, said: Preparation | None, *, shown: bool) -> Preparation | None:
    """How images are prepared for a foreign graph: as is said, or as it says itself.

    Raises:
        BadOption: something is said of a network of ours, or no images are shown.
    """
    from wb.core.errors import BadOption

    if file is None or file.suffix != ".onnx":
        refuse_for_ours(str(file or "the stock model"), said)
        return None
    if said is not None and not shown:
        raise BadOption(
            f"{OPTIONS} are of no use where no images are shown (an array is taken as it is); give --data, or --calibration "
            "with a folder of images"
        )
    return of_graph(file, said)


def run(
    config: Config, file: Path | None, out: Path | None, *, force: bool, as_json: bool, run_limit: float | None = None
) -> None:
    """Quantizes, writes graph, model, record and report, and prints what came of it.

    `run_limit` are the seconds that an ONNX file may take when it is tried out.

    Raises:
        BudgetMissed: nothing was written.
        WbError: whatever is wrong with the model, the data or the options.
    """
    import torch

    from wb.compress.quantize.begin import Given, begin

    out = _place(config, file, out, force)
    torch.set_num_threads(config.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading", total=None)

        def report(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of or 1)

        data: Dataset | None
        if file is not None and file.suffix == ".onnx":
            given, data = _foreign(config, file, run_limit)
        else:
            choice = Choice(config.data, config.image_size, config.limit)
            model, data = read(file, choice, config.seed, progress, task, by_index=config.by_index)
            given = Given(str(file or "stock model"), model)
        job = begin(config, given, data, out, report, force=force)
        with _output.resumable(job.work, _output.continues(job.work, out)):
            record = job()
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
        return
    _tell(record)
    for name in (out.with_suffix(".html").name, out.with_suffix(".json").name, record.model, record.graph):
        if name is not None:
            _output.written(out.parent / name)


def _foreign(config: Config, file: Path, run_limit: float | None) -> tuple[Given, Dataset | None]:
    """An ONNX file, with what is to be known of its images, and the data to score it on."""
    from wb.compress.quantize.begin import Given
    from wb.data.preparation import described
    from wb.export.foreign.trial import LIMIT_S
    from wb.export.graph import read_architecture

    data, notes = None, list[str]()
    if config.data is not None:
        choice = Choice(config.data, config.image_size, config.limit)
        data, notes = read_data(file, choice, config.images, by_index=config.by_index)
    elif config.calibration is not None and Path(config.calibration).is_dir() and read_architecture(file) is None:
        notes = [described(config.images)]
    limit = LIMIT_S if run_limit is None else run_limit
    return Given(str(file), path=file, notes=tuple(notes), limit_s=limit), data


def _place(config: Config, file: Path | None, out: Path | None, force: bool) -> Path:
    """Where the graph goes, checked before any work."""
    from datetime import datetime

    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.jobs.work import work_of

    if out is None:
        return Path("runs") / f"quantize-{datetime.now():%Y%m%d-%H%M%S}" / "quantized.onnx"
    if out.suffix != ".onnx":
        raise BadOption(f"{out.name} is no name for an ONNX graph; end it in .onnx")
    written = _files(config, file, out)
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


def _files(config: Config, file: Path | None, out: Path) -> list[Path]:
    """What is written; of a foreign graph, or with ranges of activations, there is no model file."""
    foreign = file is not None and file.suffix == ".onnx"
    model = () if foreign or config.policy == "int8" else (".safetensors",)
    return [out.with_suffix(ending) for ending in (".html", ".json", *model, ".onnx")]


def _tell(record: Record) -> None:
    from wb.compress.quantize.report import error_text, in_float, kept, reasons
    from wb.compress.quantize.verdict import calibrated, verdict

    _output.data.print(_readings(record))
    lines = [
        f"groups (linear maps that share a precision): {kept(record)}",
        in_float(record),
        f"output error: {error_text(record)}",
    ]
    if record.error is not None:
        lines.append("  SQNR: power of the outputs over that of their error; 20 dB more are a tenth of the error")
    fitted = calibrated(record)
    lines += [f"calibrated on {fitted}"] if fitted else []
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

    from wb.compress.quantize.report import COLUMNS, changes

    table = Table(title=f"{record.config.policy} of {record.source}", title_justify="left", box=SIMPLE)
    for column in ("", "float", "quantized", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name, change in changes(record).items():
        before, after = record.floating[name], record.quantized[name]
        table.add_row(f"{COLUMNS[name]}\n{after.how}", before.text(), after.text(), change.replace(" (", "\n("))
    return table
