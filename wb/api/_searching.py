"""Searching a space, and searching from a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.commands.option import by_field
from wb.jobs.calls.given import chosen, data_of, path_of, path_or_none, read, saying, several, shown
from wb.jobs.calls.results import Data, Result
from wb.jobs.frame.work import resumable as continued
from wb.search.shown import Front

if TYPE_CHECKING:
    from wb.jobs.calls.given import Given
    from wb.models.model import Model
    from wb.search.beginning.config import SearchConfig
    from wb.search.run import Run
    from wb.search.trained.record import TrainedSearch


def search(
    *,
    data: str | Data | None = None,
    background: str | None = None,
    budget: str | Sequence[str] = (),
    require: str | Sequence[str] = (),
    seeds: str | Sequence[Given] = (),
    start: Given | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    torchrun: int = 1,
    sequence_parallel: int = 1,
    quiet: bool = False,
    **options: Any,
) -> Front:
    """As `wb search`: trains a supernet, and searches it; options are the fields of `wb.search.beginning.config.SearchConfig`.

    `changes={"embed": "16,32"}` is what `--set embed=16,32` is; `seeds` are names, architectures as JSON, or models. A script
    that asks for several `workers` needs `if __name__ == "__main__":` around its calls, because workers import it; all but
    one of them are on the cluster of Ray at the address `ray` if there is one. With
    `start` the supernet starts from that trained model, as `wb search --from MODEL --supernet`, whose data are the default.
    `torchrun` processes train it, `sequence_parallel` of which share the tokens of each passage.

    Raises:
        WbError: the data, the options, the budget or the storage have a fault; finished stages stay.
    """
    from rich.console import Console
    from rich.progress import Progress as Bars

    from wb.scale.processes import Processes
    from wb.search.beginning.config import SearchConfig
    from wb.search.beginning.options import check_workers
    from wb.search.pipeline import Search
    from wb.search.run import resumable
    from wb.search.study.seeds import read_seeds

    check_workers(1 if workers is None else workers, ray)
    processes = Processes(torchrun, sequence_parallel)
    processes.check()
    options = by_field(SearchConfig, options)
    first = read_seeds([str(path_of(one)) for one in several(options.pop("seeds", seeds))])
    given = {
        **data_of(data, background, options),
        "budget": several(budget),
        "require": several(require),
        "seeds": first,
    }
    given = {name: value for name, value in given.items() if value not in (None, ())}
    model = None
    if start is not None:
        given, model = _started(start, given, resume, quiet=quiet)
    run, config = _begun(given, path_or_none(out), path_or_none(resume))
    console = Console(stderr=True, quiet=quiet)
    silent = quiet or not (console.is_terminal or console.is_jupyter)  # a file would only get an empty line
    with (
        Bars(console=console, disable=silent, transient=True) as bars,
        resumable(run, f"api.search(resume={str(run.folder)!r}) continues"),
    ):
        points = Search(config, run, bars, workers, model, ray, processes)(resume=resume is not None)
    return Front(run.folder, tuple(points), run.read().judgement)


def search_from(
    model: Given,
    *,
    budget: str | Sequence[str] = (),
    data: str | Data | None = None,
    background: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Result[TrainedSearch]:
    """As `wb search --from`: smaller networks made of a trained one; `out` is a folder, and the result the smallest of them.

    Options are the fields of `wb.search.trained.config.TrainedConfig`.

    Raises:
        BudgetMissed: a network is over its budget for sure; everything is written all the same.
        WbError: whatever is wrong with the model, the data, the options or the budgets.
    """
    from wb.search.trained.begin import begin, place
    from wb.search.trained.config import TrainedConfig, configured
    from wb.search.trained.report import table

    file, say = Path(path_of(model) or ""), saying(quiet=quiet)
    given = chosen(file, data, background, by_field(TrainedConfig, options), say)
    config = configured({**given, "budget": several(budget)})
    page = place(path_or_none(out), [file])
    with shown(quiet=quiet) as progress:
        weights, images = read(file, config, config.seed, progress, say)
        job = begin(config, weights, str(file), images, page, progress)
        with continued(
            job.work, f"what is done is in {job.work}; the same call with out={str(page.parent)!r} continues"
        ):
            record = job()
    with continued(page, f"the networks are in {page.parent}"):
        record.check_budget()
    return Result(record, page.parent / record.results[-1].model, tuple(job.written()), table)


def _started(
    start: Given, given: Mapping[str, Any], resume: str | Path | None, *, quiet: bool
) -> tuple[dict[str, Any], Model]:
    """The options of a search whose supernet starts from a model, and the model."""
    from wb.core.errors import BadOption
    from wb.foreign.reading import load
    from wb.search.trained.start import started

    if resume is not None:
        raise BadOption("what is resumed has its start in its folder; leave start out")
    file = Path(path_of(start) or "")
    model = load(file)
    found = chosen(file, given.get("data"), None, given, saying(quiet=quiet))
    return started({name: value for name, value in found.items() if value is not None}, model), model


def _begun(given: Mapping[str, Any], out: Path | None, resume: Path | None) -> tuple[Run, SearchConfig]:
    """The folder and the configuration of a new search, or of one to `resume`."""
    from wb.search.beginning.options import configured, resumed
    from wb.search.run import Run, create

    if resume is not None:
        run = Run(resume)
        return run, resumed(run.folder, given, out)
    config = configured(given)  # before there is a folder
    return create(out), config
