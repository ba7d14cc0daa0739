"""Figures on single networks of the front: confusion, training, composition."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from wb.core.architecture import Architecture, Stage
from wb.core.records import dims, kind_of
from wb.page.look import BLUE, COLOURS, FRONT, MANY
from wb.search.results.curves import Curve

MOST_CLASSES = 40  # in a figure or a table; the ones with most mistakes are shown
_WRITTEN = 16  # with at most so many classes, the cells have numbers
_WRONG = [[0, "rgba(139, 149, 165, 0.06)"], [1, "#d0496e"]]
_RIGHT = [[0, "rgba(139, 149, 165, 0.06)"], [1, "#4c78c8"]]


def hardest(matrix: NDArray[np.int64], most: int = MOST_CLASSES) -> list[int]:
    """The classes to show, in their order: all, or those of most mistakes in the matrix [true class, answer]."""
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    return sorted(np.argsort(-wrong, kind="stable")[:most].tolist())


def confusion_figure(matrix: NDArray[np.int64], classes: Sequence[str]) -> go.Figure:
    """Heat maps of a matrix [true class, answer]: right answers in one colour, wrong ones in another, each on its own scale."""
    shown = hardest(matrix)
    names = [html.escape(classes[i]) for i in shown]
    cells = matrix[np.ix_(shown, shown)]
    same = np.eye(len(shown), dtype=bool)
    figure = go.Figure(layout={"height": max(420, 160 + 22 * len(shown)), "hovermode": "closest"})
    for name, part, colours in (("right", same, _RIGHT), ("wrong", ~same, _WRONG)):
        counts = [
            [int(n) if here else None for n, here in zip(*row, strict=True)] for row in zip(cells, part, strict=True)
        ]
        written = [["" if not n else str(n) for n in row] for row in counts]
        most = max(1, int(cells[part].max(initial=0)))
        heat = go.Heatmap(z=counts, x=names, y=names, name=name, colorscale=colours, zmin=0, zmax=most)
        heat.update(showscale=False, xgap=1, ygap=1)
        heat.update(hovertemplate="%{y}, answered %{x}: %{z}<extra></extra>")
        if len(shown) <= _WRITTEN:
            heat.update(text=written, texttemplate="%{text}")
        figure.add_trace(heat)
    figure.update_xaxes(title_text="answer", type="category", tickangle=0 if max(map(len, names)) <= 3 else -60)
    return figure.update_yaxes(title_text="true class", type="category", autorange="reversed")


def curves_figure(curves: Mapping[str, Curve], bold: str | None = None) -> go.Figure:
    """Mean loss by epoch, a line for each name; the line `bold` is drawn over the others."""
    figure = go.Figure(layout={"height": 380, "hovermode": "closest"})
    for i, (name, curve) in enumerate(curves.items()):
        colour = (BLUE if len(curves) == 1 else COLOURS[i % len(COLOURS)]) if name != bold else FRONT
        line = {"color": colour, "width": 3 if name == bold else 1.5}
        x, y = [epoch for epoch, _ in curve], [loss for _, loss in curve]
        mode = "lines" if len(curve) > 1 else "markers"
        figure.add_trace(go.Scatter(x=x, y=y, name=html.escape(name), mode=mode, line=line))
    figure.update_xaxes(title_text="epoch", rangemode="tozero").update_yaxes(title_text="mean loss of training")
    return figure.update_layout(showlegend=len(curves) > 1)


def composition_figure(architectures: Mapping[str, Architecture], place: str) -> go.Figure | None:
    """How many parts of each kind every network has in the place (`mixer`, `ffn`, `merge`), as stacked bars; None for none."""
    counts = {name: parts_of(architecture, place) for name, architecture in architectures.items()}
    kinds = list(dict.fromkeys(kind for count in counts.values() for kind in count))
    if not kinds:
        return None
    names = [html.escape(name) for name in architectures]
    figure = go.Figure(layout={"height": 360, "barmode": "stack", "bargap": 0.35})
    for i, kind in enumerate(kinds):
        bar = go.Bar(x=names, y=[count[kind] for count in counts.values()], name=kind, marker_color=MANY[i % len(MANY)])
        figure.add_trace(bar)
    figure.update_xaxes(title_text="network, by latency", type="category")
    return figure.update_yaxes(
        title_text="number of parts", dtick=1 if max(map(_total, counts.values())) <= 12 else None
    )


def parts_of(architecture: Architecture, place: str) -> Counter[str]:
    """The kinds of the parts in that place of every block or stage, in order, with their numbers."""
    return Counter(kind_of(type(part)) for name, part in architecture.parts() if name.rpartition(".")[2] == place)


def widths_of(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """Title of a width -> the smallest and the largest of the network, of streams first and then of the parts in order."""
    found: dict[str, list[int]] = {}
    records = [*((Stage, stage) for stage in architecture.stages), *((type(p), p) for _, p in architecture.parts())]
    for kind, record in records:
        for name, dim in dims(kind).items():
            found.setdefault(dim.title, []).append(getattr(record, name))
    return {title: (min(sizes), max(sizes)) for title, sizes in found.items()}


def _total(count: Counter[str]) -> int:
    return sum(count.values())
