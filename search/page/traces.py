"""Parts of the report's figures: the candidates, and their points and values.

Text that comes from files is escaped: Plotly reads it as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from wb.core.measures.metrics import QUALITIES, Metric
from wb.core.measures.readings import Reading
from wb.page.look import COLOURS, FRONT, GREY, ORDER, TEST


@dataclass(frozen=True)
class Candidate:
    """One evaluated network as the report shows it; `predicted` and `deviation` have one number per objective.

    `unsure` says that another network of the front is surely worse in nothing. A known network has a `name`, and no number.
    """

    number: int
    readings: Mapping[str, Reading]
    summary: str = ""
    over: bool = False
    test: Reading | None = None
    predicted: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    unsure: bool = False
    name: str | None = None
    place: int | None = None  # in the order of evaluation, where that is not its number


def describe(candidate: Candidate) -> str:
    """The hover text of a candidate: every reading with its interval and how it was obtained, then its choices."""
    name = f"network {candidate.number}" if candidate.name is None else html.escape(candidate.name)
    lines = [f"<b>{name}</b>" + (" (over budget)" if candidate.over else "")]
    lines += [f"{html.escape(name)} {html.escape(r.text())}, {r.how}" for name, r in candidate.readings.items()]
    if candidate.test is not None:
        quality = ", ".join(name for name in candidate.readings if name in QUALITIES)
        lines.append(f"{quality} on the test split {html.escape(candidate.test.text())}, {candidate.test.how}")
    if candidate.unsure:
        lines.append("not surely better than a cheaper network of the front")
    return "<br>".join([*lines, html.escape(candidate.summary)])


def points(
    name: str, candidates: Sequence[Candidate], x: Sequence[float], y: Sequence[float], **style: Any
) -> go.Scatter:
    """A scatter trace with one point per candidate and hover texts; it is in the legend unless empty."""
    text = [describe(candidate) for candidate in candidates]
    shown = {"name": name, "showlegend": bool(candidates), "hoverinfo": "text"}
    return go.Scatter(x=list(x), y=list(y), mode="markers", text=text, **shown, **style)


def searched(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Markers coloured by the number of the evaluation, with a colour bar."""
    scale = {"title": {"text": "evaluation", "side": "right"}, "thickness": 10, "outlinewidth": 0}
    numbers = [candidate.number for candidate in candidates]
    return {"color": numbers, "colorscale": ORDER, "size": 7, "showscale": bool(numbers), "colorbar": scale}


def tested(candidates: Sequence[Candidate], x: Sequence[float], y: Sequence[float]) -> go.Scatter:
    """A trace of the front again, with its readings on the test split."""
    marker = {"symbol": "diamond-open", "size": 9, "color": TEST, "line": {"width": 2}}
    return points("front on the test split", candidates, x, y, marker=marker)


def chosen(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Markers of the front: hollow where a cheaper network may be as good."""
    symbols = ["circle-open" if candidate.unsure else "circle" for candidate in candidates]
    lines = [2.5 if candidate.unsure else 1 for candidate in candidates]
    edges = [FRONT if candidate.unsure else "#ffffff" for candidate in candidates]
    return {"color": FRONT, "size": 10, "symbol": symbols, "line": {"width": lines, "color": edges}}


def ringed(candidate: Candidate, x: float, y: float) -> go.Scatter:
    """A ring around the network that the page recommends."""
    marker = {"symbol": "circle-open", "size": 20, "color": FRONT, "line": {"width": 2}}
    return go.Scatter(x=[x], y=[y], mode="markers", name="the knee", marker=marker, hoverinfo="skip")


def known(candidates: Sequence[Candidate], x: Sequence[float], y: Sequence[float], middle: float) -> go.Scatter:
    """A trace of known networks with their names beside them, on the side of `middle`, so that no edge cuts them."""
    marker = {"symbol": "square", "size": 9, "color": COLOURS[2], "line": {"width": 1, "color": "#ffffff"}}
    names = [html.escape(candidate.name or "") for candidate in candidates]
    trace = points("known networks", candidates, x, y, marker=marker)
    sides = ["top left" if value > middle else "top right" for value in x]
    return trace.update(mode="markers+text", text=names, textposition=sides, hovertext=trace.text)


def level(candidates: Sequence[Candidate], across: tuple[float, float], y: Sequence[float]) -> go.Scatter:
    """A trace of what has no costs: lines at its values, from left to right."""
    x = [end for _ in candidates for end in (*across, None)]
    text = [describe(candidate) for candidate in candidates for _ in range(3)]
    trace = go.Scatter(
        x=x, y=[end for value in y for end in (value, value, None)], mode="lines", text=text, hoverinfo="text"
    )
    style = {"color": COLOURS[2], "width": 1.5, "dash": "dot"}
    trace.update(name="without a network", showlegend=bool(candidates), line=style)
    return trace


CROSS: Mapping[str, Any] = {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": GREY}}


def readings(candidates: Sequence[Candidate], metric: Metric) -> list[Reading]:
    """The reading of one metric of every candidate."""
    return [candidate.readings[metric.name] for candidate in candidates]


def values(candidates: Sequence[Candidate], metric: Metric) -> list[float]:
    """The value of one metric of every candidate."""
    return [reading.value for reading in readings(candidates, metric)]


def cost(candidate: Candidate, metric: Metric) -> float:
    """The value of one metric of a candidate, with the sign such that less is better."""
    return metric.cost(candidate.readings[metric.name])
