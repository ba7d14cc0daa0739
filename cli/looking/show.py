"""`wb show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption

if TYPE_CHECKING:
    from wb.core.architecture import Architecture, Block
    from wb.core.measures.readings import Reading
    from wb.core.records import Operator
    from wb.jobs.calls.shown import Table as Shown
    from wb.jobs.kinds import Kind
    from wb.models.exits.record import Exits
    from wb.models.files.header import Step
    from wb.search.results.point import FrontPoint


LONG = ("choices", "origin", "tokenizer")  # arguments of a step that are for programs


def show(
    path: Annotated[Path, typer.Argument(help="A model file, a checkpoint, an ONNX file of wb's, or a run folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show an architecture block by block, its history and readings; or a run's front and how far the run is."""
    from wb.jobs.kinds import MODELS, need

    expected = "a model file, a checkpoint of another library, an ONNX file of wb's, or a run folder"
    kind = need(path, "run", *MODELS, "onnx", expected=expected)
    if kind == "run":
        _show_run(path, as_json)
        return
    architecture, history = _read(path, kind)
    if as_json:
        steps = [step.model_dump(mode="json") for step in history]
        exits = _exits(path, kind)
        early = {} if exits is None else {"exits": exits.model_dump(mode="json")}
        output.print_json({"architecture": architecture.model_dump(mode="json"), **early, "history": steps})
        return
    _show_architecture(architecture, history)
    _show_exits(_exits(path, kind))
    for step in history:
        _show_step(step)


def _read(path: Path, kind: Kind) -> tuple[Architecture, tuple[Step, ...]]:
    """Architecture and history of a model or graph; for a .safetensors file from its header alone, without importing torch.

    Raises:
        BadArtefact: the file is damaged, or a foreign graph.
    """
    from wb.core.errors import BadArtefact
    from wb.models.files.header import read_header, read_history

    if kind == "model":
        return read_header(path)
    if kind == "onnx":
        from wb.export.foreign.opening import read_metadata
        from wb.export.graph import read_architecture

        architecture = read_architecture(path)
        if architecture is None:
            raise BadArtefact(
                f"{path} is an ONNX graph, but not one of wb's, so that its architecture is unknown; try `wb measure`"
            )
        return architecture, read_history(read_metadata(path).get("wb.history", "[]"), path)
    from wb.foreign.reading import read_header as read_any

    return read_any(path)


def _exits(path: Path, kind: Kind) -> Exits | None:
    """The early exits of a model or graph, if it has any."""
    if kind == "onnx":
        from wb.export.foreign.opening import read_metadata
        from wb.models.exits.record import read_exits

        return read_exits(read_metadata(path), str(path))
    from wb.models.files.header import read_early

    return read_early(path) if kind == "model" else None


def _show_exits(exits: Exits | None) -> None:
    if exits is None:
        return
    costs = [f" ({cost.text()})" for cost in exits.costs] or [""] * len(exits.names)
    ways = ", ".join(f"after {name}{cost}" for name, cost in zip(exits.after, costs, strict=False))
    output.data.print(f"early exits, {exits.dial}: {ways}; to the end{costs[-1]}", soft_wrap=True)


def _show_step(step: Step) -> None:
    """Prints one step of a history and its readings."""
    from rich.text import Text

    settings = [f"{name}={_value(value)}" for name, value in step.arguments.items() if name not in LONG]
    settings += [] if step.seed is None else [f"seed {step.seed}"]
    output.data.print(Text.assemble((step.name, "bold"), f" ({', '.join(settings)})" if settings else ""))
    if step.readings:
        output.data.print(output.readings_table(step.readings))


def _counts(a: Architecture, history: Sequence[Step]) -> tuple[Reading, Reading]:
    """Parameters and multiply-accumulates: from the last step's readings, or else counted, which needs torch and seconds."""
    last = history[-1].readings if history else {}
    if {"params", "macs"} <= last.keys():
        return last["params"], last["macs"]
    from wb.models.counting import count_macs, count_parameters

    return count_parameters(a), count_macs(a)


def _answer(a: Architecture) -> str:
    """What it answers: classes, or the next token."""
    if not a.head.classes:
        return f"the next token ({a.head.title})"
    return f"{a.head.classes} classes ({a.head.pooling} pooling)"


def _show_architecture(a: Architecture, history: Sequence[Step]) -> None:
    from rich.table import Table

    from wb.core.precision import precisions
    from wb.core.records import Attention, dims

    kept = precisions(a)
    low = any(precision != "fp32" for precision in kept.values())
    ends = f"; stem {kept['stem']}, head {kept['head']}" if low else ""
    grid = "x".join(map(str, a.layout.shape))
    grid = f"at most {grid}" if a.layout.dynamic else grid
    size = ", ".join(spec.text for spec in a.input.specs())
    widths = "".join(f", {name} {getattr(a.stem, name)}" for name in dims(type(a.stem)))
    stem = f"{a.stem.kind} stem, {a.stem.cut}{widths}"
    parameters, macs = _counts(a, history)
    output.data.print(
        f"architecture {a.key}: {a.input.kind} {size} -> {stem} -> {grid} tokens -> {_answer(a)}; "
        f"{parameters.text()} parameters, {macs.text()} multiply-accumulates{ends}",
        soft_wrap=True,
    )
    if a.head.classes:
        output.data.print(f"classes: {', '.join(a.head.labels) or 'without names'}", soft_wrap=True)
    table = Table()
    shared = tuple(dims(Attention))  # a column each
    ffns = {block.ffn.kind for _, _, block in a.blocks() if block.ffn is not None}
    ffn = next(iter(ffns)) if len(ffns) == 1 else "feed-forward"
    for column in ("block", "embed", "mixer", *shared, "other", ffn, *(["precision"] if low else [])):
        left = column in ("block", "mixer", "other", "precision")
        table.add_column(column, justify="left" if left else "right")
    for name, stage, block in a.blocks():
        cells = [*_cells(block, shared, named=len(ffns) > 1), *([_precision(name, kept)] if low else [])]
        table.add_row(name, str(stage.embed), *cells, style="dim" if block.off else None)
    output.data.print(table)
    output.data.print(
        f"embed: channels of the stream; qk, v: of a head's queries and keys, and values; {ffn}: hidden units"
        f"{'' if ffn == 'feed-forward' else ' of the feed-forward'}",
        soft_wrap=True,
    )


def _cells(block: Block, shared: Sequence[str], *, named: bool) -> list[str]:
    """What a block has, column by column, of the mixer's widths the `shared` ones; a dash where there is nothing.

    Feed-forwards of several kinds are `named`.
    """
    from wb.core.records import groups

    mlp = "-" if block.ffn is None else _feed_forward(block.ffn, named=named)
    if block.mixer is None:
        return ["off" if block.off else "none", *("-" for _ in shared), "", mlp]
    precisions = (field for field, _ in groups(type(block.mixer)).values())
    fields = block.mixer.model_dump(exclude={"kind", *precisions})
    widths = [str(fields.pop(name, "-")) for name in shared]
    other = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
    return [block.mixer.kind, *widths, other, mlp]


def _feed_forward(record: Operator, *, named: bool) -> str:
    """`glu 32, bias False`: the kind where there are several, widths, and settings other than the default."""
    from wb.core.records import dims, kind_of

    widths = [str(getattr(record, name)) for name in dims(type(record))]
    other = record.model_dump(exclude={*dims(type(record)), "kind", "reads", "writes"}, exclude_defaults=True)
    kind = f"{kind_of(type(record))} " if named else ""
    return ", ".join([f"{kind}{' '.join(widths)}", *(f"{name} {value}" for name, value in other.items())])


def _precision(name: str, kept: Mapping[str, str]) -> str:
    """`int8/fp32 · int8/int8`: mixer in and out, feed-forward in and out; a dash for a part without weights."""
    parts = ([kept.get(f"{name}.{part}.{way}") for way in ("in", "out")] for part in ("mixer", "ffn"))
    return " · ".join("/".join(pair) if (pair := [p for p in part if p]) else "-" for part in parts)


def _value(value: object) -> str:
    """A value; quoted if it has a comma, which separates values."""
    return repr(value) if isinstance(value, str) and "," in value else str(value)


def _mixers(points: Sequence[FrontPoint]) -> Shown:
    """Which mixers the networks of a front have, at which depth and for how many tokens."""
    from wb.core.architecture import Architecture
    from wb.jobs.calls.shown import Table
    from wb.search.results.mixers import COLUMNS, used

    found = used(Architecture.model_validate(point.architecture) for point in points)
    lines = ["blocks by the third of their network, of all networks of the front (counted)"]
    return Table("mixers by depth and number of tokens", COLUMNS, [list(one.cells) for one in found], lines)


def _show_run(folder: Path, as_json: bool) -> None:
    from wb.cli.searching.tables import front_table
    from wb.core.system.durations import duration
    from wb.search.crew.crew import Crew
    from wb.search.crew.pace import at_work
    from wb.search.page.contents import read_front, read_trials
    from wb.search.results.baselines import read_baselines
    from wb.search.run import Run
    from wb.search.study.standing import standing
    from wb.search.study.study import read_running

    run = Run(folder)
    record = run.read()
    trials = read_trials(run, record)
    points = read_front(run, record) or []
    baselines = read_baselines(run.baselines_path)
    missing = standing(run, record, trials)
    config = record.config
    working = at_work(read_running(run.storage(config), record.study), Crew(run.folder)) if missing else []
    if as_json:
        front = [point.model_dump(mode="json") for point in points]
        known = {"baselines": [one.model_dump(mode="json") for one in baselines]} if baselines else {}
        output.print_json(
            record.model_dump(mode="json")
            | {
                "evaluated": len(trials),
                "missing": missing,
                "at_work": [asdict(one) for one in working],
                "front": front,
            }
            | known
        )
        return
    output.data.print(
        f"run {folder}: {config.objectives} on {config.data}, preset {config.preset}, sampler {config.sampler}, "
        f"{len(trials)} of {config.trials} candidates evaluated, {record.created}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for stage, seconds in record.seconds.items():
        output.data.print(f"  {stage}: {duration(seconds)}", markup=False, highlight=False)
    if points:
        output.data.print(front_table(points, energy="energy" in {metric.name for metric in config.metrics}))
        mixers = _mixers(points)
        if mixers.rows:
            output.data.print(output.table(mixers))
    for one in baselines:
        output.data.print(one.text(), markup=False, highlight=False, soft_wrap=True)
    for each in working:
        output.data.print(f"  {each.text()}", markup=False, highlight=False, soft_wrap=True)
    if missing:
        output.data.print(missing, markup=False, highlight=False, soft_wrap=True)
