"""What the commands do, for notebooks and scripts: `from wb import api; model = api.load("a.pt"); api.prune(model)`.

Every function does what the command of its name does, with the same configuration, job, record, files and errors: see
`wb COMMAND --help`. Options that are not named here are the fields of the job's configuration
(`wb.compress.prune.config.PruneConfig` and its `settings`, and so on), called so or as the command calls them (`calibration`,
`samples`). Their values may be text, as on the command line: `snapshots="0.75x,0.5x"`. A model is given as a path or as what
another function returned; without one it is the stock model. Data are given by name or as `data` returned them; data that
are not named are those the model was trained with. Without `out`, files go to a new folder in `runs/`, whose name the result
shows. On a terminal and in a notebook, a bar on stderr shows what is being done, unless `quiet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.option import by_field
from wb.jobs.calls import chosen, continues, data_of, done, path_of, path_or_none, read, saying, several, shown, sized
from wb.jobs.results import Data, Model, Result, read_model
from wb.jobs.work import resumable
from wb.search.shown import Front

if TYPE_CHECKING:
    from wb.compress.binarize.record import Binarization
    from wb.compress.prune.record import Pruning
    from wb.compress.quantize.record import Quantization
    from wb.data.preparation import Preparation
    from wb.fusion.job.record import Fusion
    from wb.jobs.calls import Given
    from wb.jobs.classifier import Classifier, Picture
    from wb.jobs.diff.compare import Compared
    from wb.jobs.measuring import Measured
    from wb.jobs.predicting import Predictions

__all__ = [
    "Data",
    "Front",
    "Model",
    "Result",
    "binarize",
    "data",
    "diff",
    "export",
    "fuse",
    "load",
    "measure",
    "predict",
    "prune",
    "quantize",
    "search",
    "train",
]


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
    """Data by their name, as `--data` takes it: digits, imagefolder:PATH, idx:PATH, cifar10:PATH, npz:FILE or hf:PLACE.

    Raises:
        BadData: the data are damaged.
        BadOption: no such data.
    """
    from wb.data import load as load_data
    from wb.data.spec import resolved
    from wb.jobs.inputs import given_data

    return Data(load_data(resolved(given_data(spec, background) or "digits"), image_size=image_size, limit=limit))


def train(
    out: str | Path | None = None,
    *,
    data: str | Data = "digits",
    image_size: int | None = None,
    background: str | None = None,
    limit: int | None = None,
    preset: str = "auto",
    architecture: str | Path | None = None,
    epochs: int = 60,
    learning_rate: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    threads: int = 1,
    force: bool = False,
    quiet: bool = False,
    **recipe: Any,
) -> Model:
    """As `wb train`: one architecture from scratch. Raises as `wb.jobs.training.Training`.

    `recipe` are the fields of `wb.training.recipe.RecipeOptions`, and `teacher`, a file.
    """
    from wb.core.option import structured
    from wb.data.spec import resolved
    from wb.jobs.config import TrainConfig
    from wb.jobs.output import config_of
    from wb.jobs.training import Training

    path = Path(out) if out else Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}" / "trained.safetensors"
    given = {
        "preset": preset,
        "architecture": architecture or None,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch": batch,
        "seed": seed,
        "threads": threads,
        **recipe,
        **data_of(data, background, sized(image_size, limit)),
    }
    given = structured(TrainConfig, {**given, "data": resolved(given["data"])})
    training = Training(config_of(TrainConfig, "train", given), path, force)
    training.check()
    with shown(quiet=quiet) as progress, resumable(training.checkpoint, continues(training.checkpoint, path)):
        model, _ = training(progress)
    return Model(path, model)


def prune(
    model: Given | None = None,
    *,
    method: str = "nvit",
    budget: str | Sequence[str] = (),
    data: str | Data | None = None,
    background: str | None = None,
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
    from wb.compress.prune.config import WITHOUT, PruneConfig, configured
    from wb.compress.prune.report import table

    if "ranking" in options:
        options["method"] = options.pop("ranking")
    options = by_field(PruneConfig, options, WITHOUT.get(method, ()))
    file, say = path_of(model), saying(quiet=quiet)
    given = chosen(file, data, background, options, say)
    config = configured(method, {**given, "budget": several(budget)})
    place = OUTPUT.place(path_or_none(out), [file] if file else [], lambda path: files_of(config, path), force=force)
    with shown(quiet=quiet) as progress:
        weights, images = read(file, config, config.settings.seed, progress, say)
        job = begin(config, weights, str(file or "stock model"), images, place, progress, force=force)
        result = done(job, table)
    with resumable(place, f"the last model is in {place}"):
        result.record.check_budget()
    return result


def quantize(
    model: Given | None = None,
    *,
    policy: str | None = None,
    budget: str | Sequence[str] = (),
    data: str | Data | None = None,
    background: str | None = None,
    calibration: str | Path | None = None,
    run_limit: float | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Quantization]:
    """As `wb quantize`: of a model file, or of any ONNX file, whose `images` are prepared as a `Preparation` says.

    Raises:
        BudgetMissed: nothing was written.
        WbError: whatever is wrong with the model, the data or the options.
    """
    from wb.compress.quantize.begin import OUTPUT, begin, files_of
    from wb.compress.quantize.begin import Given as Subject
    from wb.compress.quantize.config import QuantizeConfig
    from wb.compress.quantize.given import background_of_data, configured, foreign, is_graph
    from wb.compress.quantize.report import table

    file, say = path_of(model), saying(quiet=quiet)
    graph = is_graph(file)
    options = by_field(QuantizeConfig, options) | {"calibration": path_or_none(calibration)}
    of_data = background_of_data({**options, "data": data}, background)
    given = chosen(file, data, of_data, options, say, needed=not graph, guess=not graph, graphs=True)
    config = configured(file, {**given, "policy": policy, "budget": several(budget), "background": background})
    inputs = [file] if file else []
    place = OUTPUT.place(path_or_none(out), inputs, lambda path: files_of(config, file, path), force=force)
    with shown(quiet=quiet) as progress:
        if is_graph(file):
            subject, images = foreign(config, file, run_limit)
        else:
            weights, images = read(file, config, config.seed, progress, say)
            subject = Subject(str(file or "stock model"), weights)
        return done(begin(config, subject, images, place, progress, force=force), table)


def binarize(
    model: Given | None = None,
    *,
    weights: str = "w1",
    attention: str = "keep",
    keep: str | Sequence[str] = (),
    head: bool = False,
    form: str | None = None,
    bits: int | None = None,
    anchors: int | None = None,
    data: str | Data | None = None,
    background: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Binarization]:
    """As `wb binarize`. Raises `WbError` for whatever is wrong with the model, the data or the options."""
    from wb.compress.binarize.begin import OUTPUT, begin, configured, files_of
    from wb.compress.binarize.config import BinarizeConfig
    from wb.compress.binarize.report import table

    file, say = path_of(model), saying(quiet=quiet)
    options = {"head": head, **by_field(BinarizeConfig, options)}
    given = chosen(file, data, background, options, say) | {"weights": weights, "attention": attention, "keep": keep}
    hashing = {"form": form, "bits": bits, "anchors": anchors}
    config = configured({**given, **{name: value for name, value in hashing.items() if value is not None}})
    place = OUTPUT.place(path_or_none(out), [file] if file else [], files_of, force=force)
    with shown(quiet=quiet) as progress:
        original, images = read(file, config, config.seed, progress, say)
        name = str(file or "stock model")
        return done(begin(config, original, name, images, place, progress, force=force), table)


def fuse(
    *models: Given,
    method: str | None = None,
    data: str | Data | None = None,
    background: str | None = None,
    to: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Fusion]:
    """As `wb fuse`; `data="none"` for none. Raises `WbError` for whatever is wrong with models, data or options."""
    from wb.fusion.job import given as taken
    from wb.fusion.job.begin import OUTPUT, begin, files_of
    from wb.fusion.job.config import FuseConfig
    from wb.fusion.job.report import table

    options = by_field(FuseConfig, options)
    paths = [path for path in map(path_of, models) if path is not None]
    given = {**data_of(data, None, options), "method": method, "to": path_or_none(to)}
    config = taken.configured(taken.choose_data(given, paths, background, saying(quiet=quiet)), paths)
    place = OUTPUT.place(path_or_none(out), [*paths, *([Path(to)] if to else [])], files_of, force=force)
    with shown(quiet=quiet) as progress:
        images, files = taken.read(config, paths, progress)
        return done(begin(config, files, images, place, progress, force=force), table)


def search(
    *,
    data: str | Data | None = None,
    background: str | None = None,
    budget: str | Sequence[str] = (),
    require: str | Sequence[str] = (),
    seeds: str | Sequence[Given] = (),
    out: str | Path | None = None,
    resume: str | Path | None = None,
    workers: int = 1,
    quiet: bool = False,
    **options: Any,
) -> Front:
    """As `wb search`: trains a supernet, and searches it; options are the fields of `wb.search.config.SearchConfig`.

    `changes={"embed": "16,32"}` is what `--set embed=16,32` is; `seeds` are names, architectures as JSON, or models. A script
    that asks for several `workers` needs `if __name__ == "__main__":` around its calls, because workers import it.

    Raises:
        WbError: the data, the options, the budget or the storage have a fault; finished stages stay.
    """
    from rich.console import Console
    from rich.progress import Progress as Bars

    from wb.search.config import SearchConfig
    from wb.search.options import check_workers, configured, resumed
    from wb.search.pipeline import Search
    from wb.search.run import Run, create
    from wb.search.run import resumable as kept
    from wb.search.study.seeds import read_seeds

    check_workers(workers)
    options = by_field(SearchConfig, options)
    first = read_seeds([str(path_of(one)) for one in several(options.pop("seeds", seeds))])
    given = {
        **data_of(data, background, options),
        "budget": several(budget),
        "require": several(require),
        "seeds": first,
    }
    given = {name: value for name, value in given.items() if value not in (None, ())}
    if resume is not None:
        run = Run(Path(resume))
        config = resumed(run.folder, given, path_or_none(out))
    else:
        config = configured(given)
        run = create(path_or_none(out))
    console = Console(stderr=True, quiet=quiet)
    with (
        Bars(console=console, disable=quiet, transient=True) as bars,
        kept(run, f"api.search(resume={str(run.folder)!r}) continues"),
    ):
        points = Search(config, run, bars, workers)(resume=resume is not None)
    return Front(run.folder, tuple(points), run.read().judgement)


def measure(
    file: Given,
    *,
    data: str | Data | None = None,
    background: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> Measured:
    """As `wb measure`: options are the fields of `wb.jobs.measuring.Measuring`. Raises as that does."""
    from wb.jobs.measuring import Measuring
    from wb.jobs.output import config_of

    options = by_field(Measuring, options)
    given = data_of(data, background, options)
    given = {name: given[name] for name in given if name != "limit" or name in options}  # of training images
    how = config_of(Measuring, "measure", given)
    with shown(quiet=quiet) as progress:
        return how(path_of(file) or Path(), progress, saying(quiet=quiet))


def predict(
    model: Given,
    pictures: Picture | Sequence[Picture],
    *,
    top: int = 3,
    background: str | None = None,
    images: Preparation | None = None,
    run_limit: float | None = None,
    quiet: bool = False,
) -> Predictions:
    """As `wb predict`: the classes of pictures, with probabilities. A picture is a path, a PIL image or an array.

    `images` prepares pictures for a network that is not the workbench's. Raises as `wb.jobs.predicting.Predicting`.
    """
    from wb.jobs.predicting import Predicting

    many = list(pictures) if isinstance(pictures, Sequence) and not isinstance(pictures, str) else [pictures]
    with shown(quiet=quiet) as progress:
        return Predicting(top, background, images, run_limit)(path_of(model) or Path(), many, progress)


def diff(
    a: Given,
    b: Given,
    *,
    data: str | Data | None = None,
    background: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> Compared:
    """As `wb diff`: options are the fields of `wb.jobs.diff.compare.Comparing`. Raises as that does."""
    from wb.jobs.diff.compare import Compared, Comparing
    from wb.jobs.output import config_of

    given = data_of(data, background, by_field(Comparing, options))
    given.pop("limit", None)  # of training images
    comparing = config_of(Comparing, "diff", given)
    with shown(quiet=quiet) as progress:
        return Compared(comparing(path_of(a) or Path(), path_of(b) or Path(), progress, saying(quiet=quiet)))


def export(
    model: Given,
    out: str | Path | None = None,
    *,
    opset: int = 20,
    exporter: str = "torchscript",
    mirror: bool = False,
    force: bool = False,
) -> Classifier:
    """As `wb export`: the model as an ONNX graph, checked against it; without `out` it goes beside the model.

    With `mirror` it looks at the mirror image too.

    Raises:
        BadArtefact: the file is no model.
        BadOption: an exporter or opset that there is not, or a file in the way.
        ExportDiffers: the graph does not compute what the model does.
    """
    from wb.jobs.classifier import Classifier
    from wb.jobs.exporting import export_file

    path = path_of(model) or Path()
    target = Path(out) if out else path.with_suffix(".onnx")
    export_file(path, target, opset=opset, exporter=exporter, force=force, mirror=mirror)
    return Classifier(target)
