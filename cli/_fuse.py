"""What `wb fuse` does: reading its options, running, telling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wb.cli import _output
from wb.cli._data import Choice, choose
from wb.cli._kinds import need_model
from wb.cli._options import option_of
from wb.cli._read import read_architecture

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from wb.core.plan import Planned
    from wb.data import Dataset
    from wb.fusion.fuse import Report
    from wb.fusion.job.begin import Files
    from wb.fusion.job.preview import Preview
    from wb.fusion.job.record import Config, Record

EPOCHS = 5  # of fine-tuning where no models are given
UNTUNED = "nothing was measured; the fused model is expected to need fine-tuning: give data, and --finetune"


def parse_anchor(text: str | None) -> int | Literal["mean"] | None:
    """`2` or `mean`. Raises `BadOption` for anything else."""
    from wb.core.errors import BadOption

    if text is None or text == "mean":
        return text if text is None else "mean"
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise BadOption(f"--anchor {text!r} is no model; give its number in the order of the command, from 1, or mean")


def parse_weights(text: str | None) -> tuple[float, ...] | None:
    """`0.3,0.7` -> (0.3, 0.7). Raises `BadOption` for anything else."""
    from wb.core.errors import BadOption

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadOption(f"--weights {text!r} is no list of numbers; give one for each model, like 0.3,0.7") from None


def choose_data(models: Sequence[Path], spec: str | None, image_size: int | None, limit: int | None) -> Choice:
    """The data that are named, or those that all models were trained with; none where `spec` is `none`, or nothing is known.

    Raises:
        BadArtefact: a file is no model.
        BadOption: no models and no data.
    """
    from wb.core.errors import BadOption

    if spec != "none":
        return choose(models, spec, image_size, limit, needed=False, guess=False)
    if not models:
        raise BadOption("--data none leaves nothing to train stock models with; give models, or data")
    return Choice(None, image_size, limit)


def config_of(settings: Mapping[str, Any], *, to: Path | None, **given: Any) -> Config:
    """The options of the command as a configuration.

    Raises:
        BadArtefact: `to` is no architecture.
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    from pydantic import ValidationError

    from wb.core.architecture import explain
    from wb.core.errors import BadOption
    from wb.fusion.job.record import Config

    if given["data"] is None:
        for name in ("finetune", "calib", "limit", "image_size", "by_index", "device"):
            if given[name] is not None and (name not in ("finetune", "by_index") or given[name]):
                raise BadOption(f"{option_of(name)} is of no use without data; name some with --data")
    if given["learning_rate"] is not None and not given["finetune"]:
        raise BadOption("--learning-rate is that of fine-tuning; add --finetune and a number of epochs")
    optional = ("finetune", "learning_rate", "device")
    given = {name: value for name, value in given.items() if value is not None or name not in optional}
    target = None if to is None else read_architecture(to)
    try:
        return Config.model_validate({**given, "settings": settings, "to": target})
    except ValidationError as error:
        text = explain(error).replace("Value error, ", "").removeprefix("settings: ").removeprefix("settings.")
        raise BadOption(f"wrong option: {text}; see `wb fuse --help`") from error


def run(
    config: Config, models: Sequence[Path], to: Path | None, out: Path | None, *, force: bool, as_json: bool
) -> None:
    """Fuses, writes model, graph, record and report, and prints what came of it.

    Raises:
        WbError: whatever is wrong with the models, the data or the options.
    """
    from wb.fusion.job.begin import begin

    out = _place(models, to, out, force)
    if config.data is None:
        _give_back()
    with _output.progress() as progress:
        report = _reporting(progress)
        data, files = _read(config, models, report)
        job = begin(config, files, data, out, report, force=force)
        with _output.resumable(job.work, _output.continues(job.work, out)):
            record = job()
    _warn(record.notes)
    if as_json:
        _output.print_json(record.model_dump(mode="json"))
        return
    _tell(record)
    graph = [] if record.graph is None else [out.parent / record.graph]
    for path in (out.with_suffix(".html"), out.with_suffix(".json"), *graph, out):
        _output.written(path)


def plan(
    config: Config, models: Sequence[Path], to: Path | None, out: Path | None, *, force: bool, as_json: bool
) -> None:
    """Says what `run` would read, match, do and write, and how long that takes.

    Raises:
        WbError: what `run` would refuse before it begins.
    """
    from wb.cli._dry_run import tell
    from wb.core.files import scratch
    from wb.fusion.job.begin import begin
    from wb.fusion.job.estimate import estimate
    from wb.fusion.job.preview import preview

    out = _place(models, to, out, force)
    with _output.progress() as progress, scratch() as folder:
        report = _reporting(progress)
        data, files, stages = _planned(config, models, folder, report)
        found = preview(config, files, data, report)
        report("timing a few steps", 0, 0)
        stages += estimate(begin(config, files, data, out, report, force=force))
    _warn(found.notes)
    if as_json:
        content = {"stages": [stage._asdict() for stage in stages], "seconds": sum(stage.seconds for stage in stages)}
        _output.print_json({**found.as_json(), **content, "files": list(map(str, _written(out)))})
        return
    _show(found)
    tell(stages, _written(out), as_json=False)


def check(config: Config, models: Sequence[Path], *, as_json: bool) -> None:
    """Prints whether and how the models can be fused.

    Raises:
        WbError: they cannot.
    """
    from wb.core.errors import BadOption
    from wb.fusion.job.preview import preview

    if not models:
        raise BadOption("--check looks at files; give the models to be fused")
    with _output.progress() as progress:
        report = _reporting(progress)
        data, files = _read(config, models, report)
        found = preview(config, files, data, report)
    _warn(found.notes)
    if as_json:
        _output.print_json(found.as_json())
    else:
        _show(found)


def _show(found: Preview) -> None:
    """Axes, blocks, and what else there is to say of what goes with what."""
    _output.data.print(_table("axes", *found.sizes()))
    if found.match():
        _output.data.print(_table("blocks", *found.match()))
    for line in found.lines():
        _output.data.print(line, markup=False, highlight=False, soft_wrap=True)


def _give_back() -> None:
    """Lets memory of freed tensors go back to the system at once.

    glibc keeps what is smaller than the largest it has seen freed: of two large models, that would be half a model more.
    Only without data, because training would be slower.
    """
    import ctypes
    from contextlib import suppress

    m_mmap_threshold = -3
    with suppress(AttributeError, OSError, TypeError):  # another system's library
        ctypes.CDLL(None).mallopt(m_mmap_threshold, 1 << 20)


def _reporting(progress: Progress) -> Report:
    task = progress.add_task("reading the models", total=None)

    def report(what: str, done: int, of: int) -> None:
        progress.update(task, description=what, completed=done, total=of or 1)

    return report


def _read(config: Config, models: Sequence[Path], report: Report) -> tuple[Dataset | None, Files]:
    """The data, where there are any, and what the models are called and where they are: two stock models by default."""
    import torch

    from wb.data import load
    from wb.spaces.stock import Stock

    torch.set_num_threads(config.threads)
    for path in models:
        need_model(path)
    data = None
    if config.data is not None:
        report("reading the data", 0, 0)
        data = load(config.data, image_size=config.image_size, limit=config.limit)
    if models or data is None:
        return data, [(str(path), path) for path in models]
    files = []
    for i, seed in enumerate((config.settings.seed, config.settings.seed + 1), start=1):
        stock = Stock(data, seed)

        def told(epoch: int, of: int, loss: float, number: int = i) -> None:
            report(f"training stock model {number} of 2 once, loss {loss:.3f}", epoch, of)

        stock(told)
        files.append((f"stock model, seed {seed}", stock.path))
    return data, files


def _planned(
    config: Config, models: Sequence[Path], folder: Path, report: Report
) -> tuple[Dataset | None, Files, list[Planned]]:
    """As `_read`, and what that is and takes; stock models that there are none of yet stand in `folder`, untrained."""
    import time

    from wb.cli._dry_run import model_of
    from wb.data import load
    from wb.models.model import save
    from wb.training.estimate import data_stage

    if models or config.data is None:
        start = time.perf_counter()
        data, files = _read(config, models, report)
        return data, files, [data_stage(data, time.perf_counter() - start)] if data is not None else []
    start = time.perf_counter()
    data = load(config.data, image_size=config.image_size, limit=config.limit)
    stages = [data_stage(data, time.perf_counter() - start)]
    files = []
    for seed in (config.settings.seed, config.settings.seed + 1):
        model, trained = model_of(None, data, seed)
        stages += trained
        files.append((f"stock model, seed {seed}", folder / f"{seed}.safetensors"))
        save(model, files[-1][1])
    return data, files, stages


def _written(out: Path) -> list[Path]:
    """What is left at the end, the model last."""
    return [*(out.with_suffix(ending) for ending in (".html", ".json", ".onnx")), out]


def _place(models: Sequence[Path], to: Path | None, out: Path | None, force: bool) -> Path:
    """Where the model goes, checked before any work."""
    from datetime import datetime

    from wb.core.errors import BadOption
    from wb.core.files import absolute
    from wb.jobs.work import work_of

    if out is None:
        return Path("runs") / f"fuse-{datetime.now():%Y%m%d-%H%M%S}" / "fused.safetensors"
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    given = {absolute(path) for path in (*models, *([to] if to else []))}
    for path in _written(out):
        if absolute(path) in given:
            raise BadOption(f"{path} is one of the files that are fused; choose another name with --out")
        # what is there after an interruption may be half of the results to come
        if path.exists() and not force and not (work_of(out) / "record.json").exists():
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return out


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        _output.note(note)


def _tell(record: Record) -> None:
    from wb.fusion.job.tables import rows
    from wb.fusion.job.verdict import remarks

    columns, table = rows(record)
    _output.data.print(_table("readings", ["", *columns], table))
    if record.ensemble:
        _output.data.print("ensemble: the models' answers averaged, at the cost of running all of them")
    _output.remarks(remarks(record))
    if record.config.data is None:
        _output.messages.print(UNTUNED, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
