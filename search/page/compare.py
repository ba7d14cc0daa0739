"""Several runs on one page: their fronts in one figure, and the front of all together where their numbers compare."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import plotly.graph_objects as go

from wb.core.errors import BadArtefact
from wb.core.measures.metrics import METRICS, Metric
from wb.core.measures.readings import Reading, Readings, ratio
from wb.core.system.files import write_text
from wb.page import look, page
from wb.search.ending.front import ranked
from wb.search.results.point import FrontPoint
from wb.search.run import Run, RunRecord

TEMPLATE = Path(__file__).parent / "compare.html.jinja"
LATENCY = METRICS["latency"]
PACES = Metric("pace", "minimize", "x", "latency over that of the reference graph", {"x": 1.0})


@dataclass(frozen=True)
class Compared:
    """One run of a comparison; `name` tells it from the others."""

    name: str
    run: Run
    record: RunRecord
    points: Sequence[FrontPoint]


@dataclass(frozen=True)
class Grounds:
    """On what runs compare: `cost` is latency, or its ratio to the reference graph; `notes` say what does not compare.

    `together` says whether one front of all makes sense.
    """

    cost: Metric
    notes: Sequence[str]
    together: bool


@dataclass(frozen=True)
class Row:
    """A network of the front of all runs."""

    run: str
    point: FrontPoint
    cost: Reading
    links: Mapping[str, str]
    unsure: str | None


def write_comparison(runs: Sequence[Run], path: Path) -> Path:
    """Writes a page on several `runs` to `path`; returns it.

    Raises:
        BadArtefact: a run is damaged, or none has a front yet.
        StorageFailed: the page cannot be written.
    """
    write_text(path, render(read(runs), path.parent))
    return path


def read(runs: Sequence[Run]) -> list[Compared]:
    """The records and fronts of `runs`; one without a front yet has no points. Raises as `write_comparison` does."""
    folders = [run.folder.resolve() for run in runs]
    short = [folder.name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(run.folder) for run in runs]
    found = [
        Compared(name, run, run.read(), run.read_front() if run.front_path.exists() else [])
        for name, run in zip(names, runs, strict=True)
    ]
    if not any(one.points for one in found):
        raise BadArtefact(f"none of {', '.join(names)} has a front yet; finish one with `wb search --resume FOLDER`")
    return found


def grounds(compared: Sequence[Compared]) -> Grounds:
    """What of the runs can be compared, by their data, devices and reference paces."""
    notes = []
    data = {one.record.data.fingerprint for one in compared}
    if len(data) > 1:
        specs = "; ".join(f"{one.name}: {_data(one.record)}" for one in compared)
        notes.append(f"The runs have different data ({specs}): their accuracies cannot be compared.")
    devices = {_device(one.record) for one in compared}
    if len(devices) > 1:
        what = "; ".join(f"{one.name}: {_device(one.record)}" for one in compared)
        notes.append(f"Latencies are of different devices ({what}) and cannot be compared.")
        return Grounds(LATENCY, notes, together=False)
    apart = [(a, b) for a, b in combinations(compared, 2) if not a.record.pace.overlaps(b.record.pace)]
    if apart:
        paces = "; ".join(f"{one.name}: {one.record.pace.text()}" for one in compared)
        notes.append(
            f"The reference graph was not equally fast when the runs began ({paces}), so that their milliseconds cannot be "
            "compared. Latencies are given over that of the reference graph instead."
        )
    return Grounds(PACES if apart else LATENCY, notes, together=len(data) == 1)


def render(compared: Sequence[Compared], beside: Path) -> str:
    """The page as HTML; its links to models are relative to the folder `beside`."""
    found = grounds(compared)
    return page.render(
        TEMPLATE,
        runs=compared,
        grounds=found,
        figure=look.figure_html("fronts", fronts_figure(compared, found)),
        rows=together(compared, found, beside) if found.together else [],
        quality=compared[0].record.metric,
        pages={one.name: page.link(one.run.report_path, beside) for one in compared if one.run.report_path.exists()},
    )


def fronts_figure(compared: Sequence[Compared], found: Grounds) -> go.Figure:
    """The fronts of all runs, a colour each: quality on the validation split against latency."""
    figure = go.Figure(layout={"height": 560, "hovermode": "closest"})
    costs, worth = [], []
    for number, one in enumerate(compared):
        x = [_cost(one.record, point, found) for point in one.points]
        y = [point.validation for point in one.points]
        costs += [reading.value for reading in x]
        worth += [reading.value for reading in y]
        text = [
            f"<b>{html.escape(one.name)}, network {point.id}</b><br>validation {html.escape(point.validation.text())}"
            f"<br>test {html.escape(point.test.text())}<br>{html.escape(cost.text())}"
            for point, cost in zip(one.points, x, strict=True)
        ]
        colour = look.COLOURS[number % len(look.COLOURS)]
        trace = go.Scatter(x=[r.value for r in x], y=[r.value for r in y], name=html.escape(one.name), text=text)
        trace.update(mode="lines+markers", hoverinfo="text", line={"color": colour, "width": 1.5, "shape": "hv"})
        trace.update(marker={"size": 9}, error_x=look.bars(x), error_y=look.bars(y))
        figure.add_trace(trace)
    shown = {"x": (found.cost, costs), "y": (compared[0].record.metric, worth)}
    return figure.update_layout(look.underscored(look.axes(shown)), showlegend=True)


def together(compared: Sequence[Compared], found: Grounds, beside: Path) -> list[Row]:
    """The front of the networks of all runs, by their readings on the validation split."""
    known = {(i, point.id): (one, point) for i, one in enumerate(compared) for point in one.points}
    readings: dict[tuple[int, int], Readings] = {
        key: {point.quality: point.validation, found.cost.name: _cost(one.record, point, found)}
        for key, (one, point) in known.items()
    }
    best = ranked(readings, (compared[0].record.metric, found.cost))
    rows = []
    for key in best.kept:
        one, point = known[key]
        links = {
            what: page.link(one.run.folder / file, beside)
            for what, file in (("onnx", point.onnx), ("model", point.model))
        }
        doubt = best.unsure.get(key)
        unsure = None if doubt is None else f"{known[doubt][0].name}, network {known[doubt][1].id}"
        rows.append(Row(one.name, point, readings[key][found.cost.name], links, unsure))
    return rows


def _cost(record: RunRecord, point: FrontPoint, found: Grounds) -> Reading:
    latency = point.values[LATENCY.name]
    return latency if found.cost is LATENCY else ratio(latency, record.pace.model_copy(update={"interval": None}))


def _data(record: RunRecord) -> str:
    data = record.data
    counts = f"{data.train:,} training, {data.validation:,} validation and {data.test:,} test {data.noun}"
    return f"{data.spec}, {data.shape}, {counts}"


def _device(record: RunRecord) -> str:
    return record.machine.get("device", record.config.device)
