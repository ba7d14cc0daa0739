"""`wb search`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import BackgroundOption, JsonOption, SequenceOption, TorchrunOption
from wb.cli.frame.options import After, Offer, options
from wb.cli.searching.tables import front_table, judgement_table

if TYPE_CHECKING:
    from wb.scale.processes import Processes
    from wb.search.beginning.config import SearchConfig
    from wb.search.pipeline import Search
    from wb.search.run import Run


def _offer() -> Offer:
    from wb.search.beginning.config import SearchConfig

    return Offer(SearchConfig, without=("start",))


@options(_offer)
def search(
    given: dict[str, Any],
    *,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precisions that each group of linear maps may have: some of int4, int8, fp32; short for --set precision=…",
            show_default="fp32",
        ),
        After("changes"),
    ] = None,
    background: BackgroundOption = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Search from this trained model, without a supernet: alternatives for each of its sub-layers, combined under "
            "--budget.",
            show_default="train a supernet",
        ),
    ] = None,
    supernet: Annotated[
        bool,
        typer.Option("--supernet", help="With --from: train a supernet, as without it, from the model's weights on."),
    ] = False,
    front: Annotated[
        int | None,
        typer.Option(
            help="With --from: so many networks, down to --budget, or to the least latency that there is.",
            show_default="one for each budget",
        ),
    ] = None,
    calibration: Annotated[
        int | None,
        typer.Option(
            "--samples",
            help="With --from: training images that alternatives are fitted to; half as many more score them.",
            show_default="1024",
        ),
    ] = None,
    alternatives: Annotated[
        int | None,
        typer.Option(
            help="With --from: score at most so many alternatives of each sub-layer, those that fit best for their work.",
            show_default="all",
        ),
    ] = None,
    distil: Annotated[
        int | None,
        typer.Option(
            help="With --from: steps of training for each alternative, towards what its sub-layer gave.",
            show_default="0",
        ),
    ] = None,
    mixers: Annotated[
        str | None,
        typer.Option(
            help="With --from: other mixers to try in the place of mixers: names, or auto for all that take less work.",
            show_default="none",
        ),
    ] = None,
    align: Annotated[
        int | None,
        typer.Option(help="With --from: make numbers of hidden units multiples of this.", show_default="1"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="With --from: peak of the learning rate, in fine-tuning.", show_default="0.001"),
    ] = None,
    by_index: Annotated[
        bool,
        typer.Option(
            "--by-index",
            help="With --from: take the classes of the data in their order, though they are named otherwise.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that evaluate candidates at the same time, each with --threads threads, and train networks alone; "
            "latencies are measured one after the other on a machine.",
            show_default="1; in a given --time two train",
        ),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Help with a run whose folder is on another machine: its study in --storage, as the run says, or the URL of "
            "the storage (or env:NAME), if no other run is under way there.",
            show_default="none",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Have all --workers but this process on a cluster of Ray: its address, auto, or local for one on this machine.",
            show_default="on this machine, without Ray",
        ),
    ] = None,
    torchrun: TorchrunOption = 1,
    sequence_parallel: SequenceOption = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder.", show_default="a new folder in runs/")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run folder; more --trials extend it.", show_default="none")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and about how long it takes; write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a supernet, search it with measured latency in the loop, and leave a Pareto front as ONNX files."""
    from wb.cli.searching import joining, trained
    from wb.scale.processes import Processes
    from wb.search import run as runs
    from wb.search.beginning.options import check_workers, configured, resumed
    from wb.search.pipeline import Search
    from wb.search.together.leading import follow, led, remember, restarted

    if Processes().follows:  # torchrun started several processes, and the first one searches
        follow(sequence_parallel)
        return
    own = {
        "front": front,
        "calibration": calibration,
        "alternatives": alternatives,
        "distil": distil,
        "mixers": mixers,
        "align": align,
        "learning_rate": learning_rate,
    }
    own |= {"by_index": by_index or None}
    if (source is not None and not supernet) or any(value is not None for value in own.values()):
        others = {"--resume": resume is not None, "--workers": (workers or 1) > 1, "--precision": precision is not None}
        others |= {"--join": join is not None, "--ray": ray is not None}
        others |= {"--torchrun": torchrun > 1, "--sequence-parallel": sequence_parallel > 1}
        trained.check_alone(own, supernet=supernet)
        with led():
            trained.search_from({**given, **own}, source, out, background, others, dry_run=dry_run, as_json=as_json)
        return
    check_workers(1 if workers is None else workers, ray)
    if join is not None:
        others = {
            "--out": out is not None,
            "--resume": resume is not None,
            "--dry-run": dry_run,
            "--ray": ray is not None,
            "--torchrun": torchrun > 1,
            "--sequence-parallel": sequence_parallel > 1,
        }
        others |= {"--precision": precision is not None, "--background": background is not None, "--supernet": supernet}
        joining.join(join, given, workers or 1, others, as_json=as_json)
        return
    processes = Processes(torchrun, sequence_parallel)
    processes.check()
    given = _read(given, precision, background)
    if (earlier := restarted()) is not None:  # torchrun starts the same command again, which continues
        given = {name: given[name] for name in ("device", "storage") if name in given}
        resume, out, supernet = earlier, None, False
    with led():
        start = None
        if supernet:
            given, start = trained.supernet_from(given, source, resume)
        config = resumed(resume, given, out) if resume else configured(given)
        if dry_run:
            _plan(config, workers, runs.Run(resume) if resume else None, processes, ray, as_json)
            return
        run = runs.Run(resume) if resume else runs.create(out)
        remember(run.folder)
        search = Search(config, run, output.progress(), workers, start, ray, processes)
        _search(search, resume is not None, as_json=as_json)


def _read(given: Mapping[str, Any], precision: str | None, background: str | None) -> dict[str, Any]:
    """The options as fields of a configuration; those that say nothing are left out."""
    from wb.jobs.inputs import given_data
    from wb.search.study.seeds import read_seeds

    read = {
        **given,
        "changes": _changes(given.get("changes", {}), precision),
        "data": given_data(given.get("data"), background),
        "budget": tuple(given.get("budget", ())) or None,
        "require": tuple(given.get("require", ())) or None,
        "seeds": read_seeds(given["seeds"]) if "seeds" in given else None,
    }
    return {name: value for name, value in read.items() if value is not None}


def _search(search: Search, resume: bool, *, as_json: bool) -> None:
    """Searches, and prints the front.

    Raises:
        BudgetMissed: the requirements are not met; all is written.
    """
    from wb.core.errors import BudgetMissed
    from wb.search import run as runs
    from wb.search.judgement.shown import missed
    from wb.search.results.devices import device_fronts

    run, config = search.run, search.config
    again = f"wb search --resume {shlex.quote(str(run.folder))}"
    with search.progress, runs.resumable(run, f"continue with: {again}"):
        points = search(resume=resume)
    judgement = run.read().judgement
    if as_json:
        told = {} if judgement is None else {"judgement": judgement.model_dump(mode="json")}
        found = [point.model_dump(mode="json") for point in points]
        output.print_json({"run": str(run.folder), "front": found, **told})
    else:
        output.data.print(front_table(points, energy="energy" in {metric.name for metric in config.metrics}))
        for one in device_fronts(points, run.read().devices, config.limits):
            output.data.print(one.line(), markup=False, highlight=False, soft_wrap=True)
        if judgement is not None:
            output.data.print(judgement_table(judgement))
        output.written(run.report_path)
    if judgement is not None and not judgement.met:
        raise BudgetMissed(missed(judgement, again))


def _changes(given: Mapping[str, str], precision: str | None) -> dict[str, str] | None:
    """The fields of the space to replace; None if there are none."""
    from wb.core.errors import BadOption

    if precision is not None and "precision" in given:
        raise BadOption("--precision and --set precision=… say the same thing twice; give one")
    return {**({} if precision is None else {"precision": precision}), **given} or None


def _plan(
    config: SearchConfig,
    workers: int | None,
    run: Run | None,
    processes: Processes,
    ray: str | None,
    as_json: bool,
) -> None:
    from rich.table import Table
    from rich.text import Text

    from wb.core.system.durations import duration
    from wb.search.planning.plan import plan

    with output.progress() as progress:
        stages = plan(config, progress, workers, run, processes, ray)
    if as_json:
        output.print_json([stage._asdict() for stage in stages])
        return
    table = Table(title="what would be done (nothing is written)", title_justify="left")
    for column in ("stage", "what", "about"):
        table.add_column(column)
    for stage in stages:
        table.add_row(stage.name, Text(stage.what), duration(stage.seconds))
    table.add_row("", "in all", duration(sum(stage.seconds for stage in stages)), style="bold")
    output.data.print(table)
