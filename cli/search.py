"""`wb search`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli import _output
from wb.cli._options import After, Offer, options
from wb.cli._shared import BackgroundOption, JsonOption

if TYPE_CHECKING:
    from rich.console import Group

    from wb.core.readings import Reading
    from wb.search.config import SearchConfig
    from wb.search.judgement.record import Judgement
    from wb.search.results.point import FrontPoint
    from wb.search.run import Run


def _offer() -> Offer:
    from wb.search.config import SearchConfig

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
        int,
        typer.Option(
            help="Processes that evaluate candidates at the same time, each with --threads threads; latencies are measured one "
            "after the other.",
        ),
    ] = 1,
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
    from wb.core.errors import BudgetMissed
    from wb.jobs.inputs import given_data
    from wb.search import run as runs
    from wb.search.judgement.shown import missed
    from wb.search.options import check_workers, configured, resumed
    from wb.search.pipeline import Search
    from wb.search.study.seeds import read_seeds

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
    from wb.cli import _from

    if (source is not None and not supernet) or any(value is not None for value in own.values()):
        others = {
            "--resume": resume is not None,
            "--workers": workers > 1,
            "--precision": precision is not None,
        }
        _from.check_alone(own, supernet=supernet)
        _from.search_from({**given, **own}, source, out, background, others, dry_run=dry_run, as_json=as_json)
        return
    check_workers(workers)
    given |= {
        "changes": _changes(given.get("changes", {}), precision),
        "data": given_data(given.get("data"), background),
        "budget": tuple(given.get("budget", ())) or None,
        "require": tuple(given.get("require", ())) or None,
        "seeds": read_seeds(given["seeds"]) if "seeds" in given else None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    start = None
    if supernet:
        given, start = _from.supernet_from(given, source, resume)
    config = resumed(resume, given, out) if resume else configured(given)
    if dry_run:
        _plan(config, workers, runs.Run(resume) if resume else None, as_json)
        return
    run = runs.Run(resume) if resume else runs.create(out)
    again = f"wb search --resume {shlex.quote(str(run.folder))}"
    with _output.progress() as progress, runs.resumable(run, f"continue with: {again}"):
        points = Search(config, run, progress, workers, start)(resume=resume is not None)
    judgement = run.read().judgement
    if as_json:
        told = {} if judgement is None else {"judgement": judgement.model_dump(mode="json")}
        found = [point.model_dump(mode="json") for point in points]
        _output.print_json({"run": str(run.folder), "front": found, **told})
    else:
        _output.data.print(front_table(points, energy="energy" in {metric.name for metric in config.metrics}))
        if judgement is not None:
            _output.data.print(judgement_table(judgement))
        _output.written(run.report_path)
    if judgement is not None and not judgement.met:
        raise BudgetMissed(missed(judgement, again))


def front_table(points: Sequence[FrontPoint], *, energy: bool) -> Group:
    """The front as a table, with notes on quality below; `energy` adds its column, for runs that had it as an objective."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.jobs.shown import noted

    table = Table(title="front, by latency", title_justify="left", box=SIMPLE)
    costs = ("kB", "kMACs", "params", *(["~nJ"] if energy else []))
    for column in ("id", "val %\n± pts", "test %\n± pts", "ms\n± %", *costs):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("network")
    for point in points:
        values = point.values
        table.add_row(
            str(point.id),
            *(_two_lines(reading) for reading in (point.validation, point.test, values["latency"])),
            f"{values['size'].value / 1e3:.4g}",
            f"{values['macs'].value / 1e3:.4g}",
            f"{values['params'].value:.0f}",
            *([f"{values['energy'].value / 1e3:.4g}"] if energy else []),
            summary(point),
        )
    validation = [(f"val % of {point.id}", point.validation) for point in points]
    tests = [(f"test % of {point.id}", point.test) for point in points]
    worse = [f"{point.id}: {remark.text}" for point in points if (remark := point.worse) is not None]
    noise = [f"{point.id}: {point.unsure.text()}" for point in points if point.unsure is not None]
    noise += [
        f"{point.id} stands for {', '.join(map(str, point.alike))}, which nothing tells from it"
        for point in points
        if point.alike
    ]
    return Group(table, *(Text(line) for line in (*noted([*validation, *tests]), *worse, *noise)))


def judgement_table(judgement: Judgement) -> Group:
    """The judgement by the requirements: a row for each network, and what else there is to say below."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.search.judgement.shown import rows, sentences

    table = Table(title="requirements, the nearest first", title_justify="left", box=SIMPLE)
    for column in ("id", *judgement.requirements):
        table.add_column(Text(column), justify="right" if column == "id" else "left")
    for row in rows(judgement):
        table.add_row(*map(Text, row))
    return Group(table, *map(Text, sentences(judgement)))


def _two_lines(reading: Reading) -> str:
    """The value and its spread on two lines, for a column whose heading has the units: percent and points, or ms and percent."""
    value = reading.plain().removesuffix(f" {reading.unit}").removesuffix(" %")
    return f"{value}\n{reading.spread().removesuffix(' points').removesuffix(' %')}".rstrip()


def summary(point: FrontPoint) -> str:
    """A network in a line, `embed 16: pool, 2x softmax 4; 5 of 14 groups int8`: mixers in order with heads, and precisions."""
    from collections import Counter
    from itertools import groupby

    from wb.core.architecture import Architecture
    from wb.core.precision import precisions
    from wb.core.records import dims, kind_of

    architecture = Architecture.model_validate(point.architecture)
    names = []
    for _, _, block in architecture.compact().blocks():
        _, first = next(block.parts())  # the feed-forward where there is no mixer
        outer = dict.fromkeys(dim.within for dim in dims(type(first)).values() if dim.within is not None)
        names.append(" ".join([kind_of(type(first)), *(str(getattr(first, width)) for width in outer)]))
    runs = [(name, len(list(group))) for name, group in groupby(names)]
    listed = ", ".join(name if count == 1 else f"{count}x {name}" for name, count in runs)
    low = Counter(p for p in precisions(architecture).values() if p != "fp32")
    kept = "".join(f"; {count} of {len(precisions(architecture))} groups {p}" for p, count in low.items())
    twin = "" if point.mirrors is None else f"; {point.mirrors} with mirror images"
    return f"embed {architecture.stages[0].embed}: {listed or 'no blocks'}{kept}{twin}"


def _changes(given: Mapping[str, str], precision: str | None) -> dict[str, str] | None:
    """The fields of the space to replace; None if there are none."""
    from wb.core.errors import BadOption

    if precision is not None and "precision" in given:
        raise BadOption("--precision and --set precision=… say the same thing twice; give one")
    return {**({} if precision is None else {"precision": precision}), **given} or None


def _plan(config: SearchConfig, workers: int, run: Run | None, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from wb.core.durations import duration
    from wb.search.plan import plan

    with _output.progress() as progress:
        stages = plan(config, progress, workers, run)
    if as_json:
        _output.print_json([stage._asdict() for stage in stages])
        return
    table = Table(title="what would be done (nothing is written)", title_justify="left")
    for column in ("stage", "what", "about"):
        table.add_column(column)
    for stage in stages:
        table.add_row(stage.name, Text(stage.what), duration(stage.seconds))
    table.add_row("", "in all", duration(sum(stage.seconds for stage in stages)), style="bold")
    _output.data.print(table)
