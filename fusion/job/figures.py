"""The figures of a fusion's report, one function each."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wb.core.architecture import kind_of_axis, kinds_of_axes
from wb.core.measures.metrics import METRICS
from wb.fusion.curve import Point
from wb.fusion.job.record import Fusion
from wb.fusion.job.tables import short
from wb.page.look import BLUE, COLOURS, FRONT, GREY, TEST
from wb.tasks.next import PPL

LINES = {"vanilla": ("averaged as they are", GREY, "dash"), "aligned": ("aligned and averaged", BLUE, "solid")}
POINTS = {
    "one shot": (FRONT, "circle", 11),
    "fine-tuned": (TEST, "diamond-open", 15),
}  # the latter drawn around the former
FEW = 5  # with fewer places, bars would be wider than in the other figures
FAINT = 0.45  # opacity of distances before alignment
NAME = 24  # longest name in a figure, in letters


def lines_figure(record: Fusion) -> go.Figure:
    """Loss, and below it quality, between the anchor and the other parents, with the fused models at their share."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.55, 0.45])
    quality = record.metric.title
    for line in record.lines:
        name, colour, dash = LINES[line.name]
        style = {"mode": "lines", "line": {"color": colour, "dash": dash, "width": 2.5}}
        _add(figure, f"{name}, barrier {record.barrier(line):.2g} nats", line.points, style, quality)
    style = {"mode": "markers", "marker": {"color": BLUE, "size": 9, "symbol": "square"}}
    _add(figure, "parents", record.ends, style, quality)
    for name, one in record.points.items():
        colour, symbol, wide = POINTS.get(name, POINTS["one shot"])
        style = {"mode": "markers", "marker": {"color": colour, "size": wide, "symbol": symbol, "line": {"width": 2.5}}}
        _add(figure, html.escape(name), [one], style, quality)
    names = [html.escape(name) for name in _names(record)]
    others = [name for i, name in enumerate(names) if i != record.anchor]
    title = f"share of {others[0]}" if len(others) == 1 else f"share of all but {names[record.anchor]}"
    figure.update_xaxes(tickformat=".0%", range=[-0.03, 1.03])
    figure.update_xaxes(title_text=title, row=2, col=1)
    figure.update_yaxes(title_text="loss, nats", rangemode="tozero", row=1, col=1)
    share = {"tickformat": ".0%"} if record.metric.unit == "fraction" else {}
    figure.update_yaxes(title_text=quality, row=2, col=1, **share)
    return figure.update_layout(height=560, hovermode="closest")


def distance_figures(record: Fusion) -> list[tuple[str, go.Figure]]:
    """Distance of each parent from the fused model's axes, before and after alignment: (title, figure) for each kind of axis."""
    series = distance_series(record)
    axes = list(dict.fromkeys(axis for row in record.parents for axis in row.costs))
    highest = max((value for *_, found in series for value in found.values()), default=1.0)
    titles = {kind: dim.title for kind, dim in kinds_of_axes(row.architecture for row in record.parents).items()}
    drawn = []
    for kind in dict.fromkeys(map(kind_of_axis, axes)):
        here = [axis for axis in axes if kind_of_axis(axis) == kind]
        figure = go.Figure(layout={"height": 230, "bargap": 0.25, "margin": {"t": 30, "b": 40}, "showlegend": False})
        for name, colour, opacity, found in series:
            bar = go.Bar(x=[html.escape(axis.rsplit(".", 1)[0]) for axis in here], y=[found.get(axis) for axis in here])
            bar.update(marker={"color": colour, "opacity": opacity}, name=html.escape(name))
            figure.add_trace(bar.update(hovertemplate=f"%{{x}}: %{{y:.3f}}<extra>{html.escape(name)}</extra>"))
        if len(here) < FEW:
            middle = (len(here) - 1) / 2
            figure.update_xaxes(range=[middle - FEW / 2, middle + FEW / 2])
        drawn.append((titles.get(kind, kind), figure.update_yaxes(range=[0, 1.05 * highest], nticks=5)))
    return drawn


def distance_series(record: Fusion) -> list[tuple[str, str, float, Mapping[str, float]]]:
    """The series of the distance figures: name, colour, opacity and values by axis."""
    parents = [(name, row) for name, row in zip(_names(record), record.parents, strict=True) if row.costs]
    found: list[tuple[str, str, float, Mapping[str, float]]] = []
    for i, (name, row) in enumerate(parents):
        colour = COLOURS[i % len(COLOURS)] if len(parents) > 1 else BLUE
        if row.before:
            found.append((f"{name}, as it is", GREY if len(parents) == 1 else colour, FAINT, row.before))
        found.append((f"{name}, aligned", colour, 1.0, row.costs))
    return found


def _add(figure: go.Figure, name: str, points: Sequence[Point], style: Mapping[str, object], quality: str) -> None:
    """Adds the same points to both panels: losses above, and below the metric called `quality`."""
    form = ".4g" if quality == METRICS[PPL].title else ".2%"
    text = [f"{name}<br>loss {p.loss:.3g} nats<br>{quality} {p.accuracy:{form}}<br>at {p.share:.0%}" for p in points]
    for row, values in ((1, [p.loss for p in points]), (2, [p.accuracy for p in points])):
        trace = go.Scatter(x=[p.share for p in points], y=values, name=name, legendgroup=name, showlegend=row == 1)
        figure.add_trace(trace.update(style, text=text, hoverinfo="text"), row, 1)


def _names(record: Fusion) -> list[str]:
    """The parents' names, short enough for a legend."""
    names = short([parent.name for parent in record.parents])
    return [name if len(name) <= NAME else f"…{name[1 - NAME :]}" for name in names]
