"""The jobs on one trained model: pruning, quantization, binarization, conversion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.commands.option import by_field
from wb.jobs.calls.given import chosen, done, path_of, path_or_none, read, saying, several, shown
from wb.jobs.calls.results import Data, Result
from wb.jobs.frame.work import resumable

if TYPE_CHECKING:
    from wb.compress.binarize.record import Binarization
    from wb.compress.convert.record import Conversion
    from wb.compress.prune.record import Pruning
    from wb.compress.quantize.record import Quantization
    from wb.jobs.calls.given import Given


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
    files = [file] if file else []
    place = OUTPUT.place(path_or_none(out), files, lambda path: files_of(config, file, path), force=force)
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


def convert(
    model: Given | None = None,
    *,
    mixer: str | None = None,
    layers: str | Sequence[str] = (),
    wiring: str = "keep",
    norm: str = "keep",
    data: str | Data | None = None,
    background: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Conversion]:
    """As `wb convert`. Raises `WbError` for whatever is wrong with the model, the data or the options."""
    from wb.compress.convert.begin import OUTPUT, begin, files_of
    from wb.compress.convert.config import ConvertConfig, configured
    from wb.compress.convert.report import table

    file, say = path_of(model), saying(quiet=quiet)
    given = chosen(file, data, background, by_field(ConvertConfig, options), say)
    config = configured({**given, "mixer": mixer, "layers": several(layers), "wiring": wiring, "norm": norm})
    place = OUTPUT.place(path_or_none(out), [file] if file else [], files_of, force=force)
    with shown(quiet=quiet) as progress:
        original, images = read(file, config, config.seed, progress, say)
        name = str(file or "stock model")
        return done(begin(config, original, name, images, place, progress, force=force), table)
