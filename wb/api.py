"""What the commands do, for notebooks and scripts: `from wb import api; model = api.load("a.pt"); api.prune(model)`.

Every function does what the command of its name does, with the same configuration, job, record, files and errors: see
`wb COMMAND --help`. Options that are not named here are the fields of the job's configuration (`wb.compress.prune.record.
PruneConfig` and its `settings`, and so on). A model is given as a path or as what another function returned; without one it is
the stock model. Data that are not named are those the model was trained with. Without `out`, files go to a new folder in
`runs/`, whose name the result shows. What is being done shows on stderr unless `quiet`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.jobs.results import Data, Model, Result, read_model
from wb.jobs.shown import Shown, Table

if TYPE_CHECKING:
    from wb.compress.binarize.record import Binarization
    from wb.compress.prune.record import Pruning
    from wb.compress.quantize.record import Quantization
    from wb.core.progress import Progress
    from wb.data import Dataset
    from wb.fusion.job.record import Fusion
    from wb.jobs.classifier import Classifier
    from wb.jobs.job import Job
    from wb.jobs.measuring import Measured
    from wb.models.model import Model as Weights
    from wb.search.run import FrontPoint

__all__ = [
    "Data",
    "Front",
    "Model",
    "Result",
    "binarize",
    "data",
    "export",
    "fuse",
    "load",
    "measure",
    "prune",
    "quantize",
    "search",
    "train",
]


@dataclass(frozen=True, repr=False)
class Front(Shown):
    """The networks of a search that nothing beats, by latency; `front[0]` is the graph of the fastest."""

    folder: Path
    points: tuple[FrontPoint, ...]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, number: int) -> Classifier:
        from wb.jobs.classifier import Classifier

        return Classifier(self.folder / self.points[number].onnx)

    def model(self, number: int) -> Model:
        """The model file of one of them."""
        return read_model(self.folder / self.points[number].model)

    def table(self) -> Table:
        """One row a network."""
        columns = (*dict.fromkeys(point.quality for point in self.points), "latency", "size", "macs", "params")
        rows = [
            (str(point.id), *(point.values[name].text() for name in columns), point.test.text())
            for point in self.points
        ]
        return Table(str(self.folder), ("id", *columns, "test"), rows)


Given = str | Path | Model | Result[Any]  # a model: a file, or what another function returned


def load(path: str | Path) -> Model | Classifier:
    """The model in a file of wb's; of an ONNX graph something that names the classes of pictures.

    Raises:
        BadArtefact: the file is neither, or damaged.
    """
    from wb.jobs.classifier import Classifier
    from wb.jobs.kinds import GRAPH, need

    path = Path(path)
    if need(path, "model", "torch", "onnx", expected=GRAPH) == "onnx":
        return Classifier(path)
    return read_model(path)


def data(
    spec: str = "digits", *, image_size: int | None = None, limit: int | None = None, background: str | None = None
) -> Data:
    """Data by their name, as `--data` takes it: digits, imagefolder:PATH, idx:PATH or cifar10:PATH.

    Raises:
        BadData: the data are damaged.
        BadOption: no such data.
    """
    from wb.data import load as read
    from wb.data.spec import resolved
    from wb.jobs.inputs import given_data

    return Data(read(resolved(given_data(spec, background) or "digits"), image_size=image_size, limit=limit))


def train(
    out: str | Path | None = None,
    *,
    data: str = "digits",
    image_size: int | None = None,
    limit: int | None = None,
    preset: str = "tiny",
    architecture: str | Path | None = None,
    epochs: int = 60,
    learning_rate: float = 3e-3,
    batch: int = 32,
    seed: int = 0,
    threads: int = 1,
    force: bool = False,
    quiet: bool = False,
) -> Model:
    """As `wb train`: one architecture from scratch. Raises as `wb.jobs.training.Training`."""
    from wb.data.spec import resolved
    from wb.jobs.config import TrainConfig
    from wb.jobs.output import config_of
    from wb.jobs.training import Training

    path = Path(out) if out else Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}" / "trained.safetensors"
    given = {
        "data": resolved(data),
        "image_size": image_size,
        "limit": limit,
        "preset": preset,
        "architecture": architecture or None,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch": batch,
        "seed": seed,
        "threads": threads,
    }
    with _told(quiet) as progress:
        model, _ = Training(config_of(TrainConfig, "train", given), path, force)(progress)
    return Model(path, model)


def prune(
    model: Given | None = None,
    *,
    method: str = "nvit",
    budget: str | Sequence[str] = (),
    data: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Pruning]:
    """As `wb prune nvit`, or with method "depth" as `wb prune depth`; `ranking` is what the former calls `--method`.

    Raises:
        BudgetMissed: the last readings are over a budget for sure; everything is written all the same.
        WbError: whatever is wrong with the model, the data, the options or the budget.
    """
    from wb.compress.prune.begin import OUTPUT, begin, files_of
    from wb.compress.prune.config import configured
    from wb.compress.prune.report import table

    if "ranking" in options:
        options["method"] = options.pop("ranking")
    chosen = _chosen(model, data, options)
    config = configured(method, {**options, **chosen, "budget": _several(budget)})
    file = _path(model)
    place = OUTPUT.place(_out(out), _files(file), lambda path: files_of(config, path), force=force)
    with _told(quiet) as progress:
        read = _read(file, config, config.settings.seed, progress)
        job = begin(config, read[0], str(file or "stock model"), read[1], place, progress, force=force)
        result = _done(job, table)
    result.record.check_budget()
    return result


def quantize(
    model: Given | None = None,
    *,
    policy: str | None = None,
    budget: str | Sequence[str] = (),
    data: str | None = None,
    calibration: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Quantization]:
    """As `wb quantize`: of a model file, or of any ONNX file.

    Raises:
        BudgetMissed: nothing was written.
        WbError: whatever is wrong with the model, the data or the options.
    """
    from wb.compress.quantize.begin import OUTPUT, Given, begin, files_of
    from wb.compress.quantize.given import configured, foreign, is_graph
    from wb.compress.quantize.report import table

    file = _path(model)
    graph = is_graph(file)
    chosen = _chosen(model, data, options, needed=not graph, guess=not graph, graphs=True)
    given = {**options, **chosen, "policy": policy, "budget": _several(budget)}
    config = configured(file, {**given, "calibration": Path(calibration) if calibration else None})
    place = OUTPUT.place(_out(out), _files(file), lambda path: files_of(config, file, path), force=force)
    with _told(quiet) as progress:
        if is_graph(file):
            subject, dataset = foreign(config, file, None)
        else:
            weights, dataset = _read(file, config, config.seed, progress)
            subject = Given(str(file or "stock model"), weights)
        return _done(begin(config, subject, dataset, place, progress, force=force), table)


def binarize(
    model: Given | None = None,
    *,
    weights: str = "w1",
    attention: str = "keep",
    keep: Sequence[str] = (),
    head: bool = False,
    form: str | None = None,
    bits: int | None = None,
    anchors: int | None = None,
    data: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Binarization]:
    """As `wb binarize`. Raises `WbError` for whatever is wrong with the model, the data or the options."""
    from wb.compress.binarize.begin import OUTPUT, begin, configured, files_of
    from wb.compress.binarize.report import table

    chosen = _chosen(model, data, options)
    given = {**options, **chosen, "weights": weights, "attention": attention, "keep": tuple(keep), "head": head}
    hashing = {"form": form, "bits": bits, "anchors": anchors}
    config = configured({**given, **{name: value for name, value in hashing.items() if value is not None}})
    file = _path(model)
    place = OUTPUT.place(_out(out), _files(file), files_of, force=force)
    with _told(quiet) as progress:
        read = _read(file, config, config.seed, progress)
        name = str(file or "stock model")
        return _done(begin(config, read[0], name, read[1], place, progress, force=force), table)


def fuse(
    *models: Given,
    method: str | None = None,
    data: str | None = None,
    to: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Fusion]:
    """As `wb fuse`; `data="none"` for none. Raises `WbError` for whatever is wrong with models, data or options."""
    from wb.fusion.job import given as taken
    from wb.fusion.job.begin import OUTPUT, begin, files_of
    from wb.fusion.job.report import table

    paths = [path for path in map(_path, models) if path is not None]
    target = Path(to) if to else None
    background = options.pop("background", None)
    given = {**options, "method": method, "data": data, "to": target}
    config = taken.configured(taken.choose_data(given, paths, background, _say(quiet)), paths)
    place = OUTPUT.place(_out(out), [*paths, *([target] if target else [])], files_of, force=force)
    with _told(quiet) as progress:
        dataset, files = taken.read(config, paths, progress)
        return _done(begin(config, files, dataset, place, progress, force=force), table)


def search(
    *,
    data: str = "digits",
    out: str | Path | None = None,
    resume: str | Path | None = None,
    workers: int = 1,
    quiet: bool = False,
    **options: Any,
) -> Front:
    """As `wb search`: trains a supernet, and searches it; options are the fields of `wb.search.config.SearchConfig`.

    Raises:
        WbError: whatever is wrong with the data, the options, the budget or the storage; what is done stays.
    """
    from rich.console import Console
    from rich.progress import Progress as Bars

    from wb.search.options import configured, resumed
    from wb.search.pipeline import Search
    from wb.search.run import Run, create

    if isinstance(options.get("budget"), str):
        options["budget"] = (options["budget"],)
    if resume is not None:
        folder = Path(resume)
        given = options if data == "digits" else {**options, "data": data}
        config, run = resumed(folder, given, None if out is None else Path(out)), Run(folder)
    else:
        config = configured({**options, "data": data})
        run = create(_out(out))
    with Bars(console=Console(stderr=True, quiet=quiet), disable=quiet, transient=True) as bars:
        points = Search(config, run, bars, workers)(resume=resume is not None)
    return Front(run.folder, tuple(points))


def measure(
    file: Given, *, data: str | None = None, background: str | None = None, quiet: bool = False, **options: Any
) -> Measured:
    """As `wb measure`: options are the fields of `wb.jobs.measuring.Measuring`. Raises as that does."""
    from wb.jobs.inputs import given_data
    from wb.jobs.measuring import Measuring
    from wb.jobs.output import config_of

    path = _path(file)
    with _told(quiet) as progress:
        how = config_of(Measuring, "measure", {**options, "data": given_data(data, background)})
        return how(path or Path(), progress, _say(quiet))


def export(
    model: Given,
    out: str | Path | None = None,
    *,
    opset: int = 20,
    exporter: str = "torchscript",
    force: bool = False,
) -> Classifier:
    """As `wb export`: the model as an ONNX graph, checked against it; without `out` it goes beside the model.

    Raises:
        BadArtefact: the file is no model.
        BadOption: an exporter or opset that there is not, or a file in the way.
        ExportDiffers: the graph does not compute what the model does.
    """
    from wb.jobs.classifier import Classifier
    from wb.jobs.exporting import export_file

    path = _path(model) or Path()
    target = Path(out) if out else path.with_suffix(".onnx")
    export_file(path, target, opset=opset, exporter=exporter, force=force)
    return Classifier(target)


# ---------------------------------------------------------------------------------------------- what they share


def _path(model: Given | None) -> Path | None:
    """The file of a model."""
    if model is None or isinstance(model, Path):
        return model
    return Path(model) if isinstance(model, str) else model.path


def _out(out: str | Path | None) -> Path | None:
    return None if out is None else Path(out)


def _files(file: Path | None) -> list[Path]:
    return [] if file is None else [file]


def _several(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _chosen(model: Given | None, data: str | None, options: dict[str, Any], **which: bool) -> dict[str, Any]:
    """The data for a model; takes what is said of them out of `options`, but for the background of calibration pictures."""
    from wb.jobs.inputs import choose, given_data

    size, limit = options.pop("image_size", None), options.pop("limit", None)
    background = options.get("background") if which else options.pop("background", None)
    files = _files(_path(model))
    return choose(files, given_data(data, background), size, limit, say=_say(False), **which).fields


def _read(file: Path | None, config: Any, seed: int, progress: Progress) -> tuple[Weights, Dataset]:
    import torch

    from wb.jobs.inputs import Choice, read

    torch.set_num_threads(config.threads)
    choice = Choice(config.data, config.image_size, config.limit)
    return read(file, choice, seed, progress, say=_say(False), by_index=config.by_index)


def _done(job: Job[Any], rows: Callable[[Any], Table]) -> Result[Any]:
    """Does the job."""
    record = job()
    return Result(record, job.out, tuple(job.written()), rows)


def _say(quiet: bool) -> Callable[[str], None]:
    """What hears what a user should know."""

    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(f"{text}\n")

    return say


@contextmanager
def _told(quiet: bool) -> Iterator[Progress]:
    """Progress on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bars:
        task = bars.add_task("reading", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bars.update(task, description=what, completed=done, total=of or None)

        yield progress
