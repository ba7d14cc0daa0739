"""What the report's figures are made of: the candidates they show, the look, points with error bars, axes of a metric.

Text that comes from files is escaped: Plotly reads it as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from wb.core.metrics import Limit, Metric
from wb.core.readings import Reading

FRONT, TEST, BUDGET, BLUE, GREY = "#f76707", "#0ca678", "#e64980", "#3b82f6", "#8b95a5"
ORDER = [[0, "#b3bdca"], [0.5, "#6f9fe0"], [1, "#3565d8"]]  # early to late; all of it visible on white and on black
TICKS = {"fraction": ".3~%", "ms": ".3~g"}  # everything else is a count and gets a prefix
UNITS = {"fraction": "", "ms": " in ms", "B": " in bytes"}
LOG_FROM = 20  # times the smallest value, from where on a linear axis would hide the small ones


@dataclass(frozen=True)
class Candidate:
    """One evaluated network as the report shows it; `predicted` and `deviation` have one number per objective."""

    number: int
    readings: Mapping[str, Reading]
    summary: str = ""
    over: bool = False
    test: Reading | None = None
    predicted: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


def template(*, dark: bool) -> go.layout.Template:
    """The look of all figures; the page swaps the two as the reader's system is light or dark."""
    text, grid, card = ("#d5dae2", "#333b47", "#262d38") if dark else ("#3b4454", "#e6e9ee", "#ffffff")
    axis = {"gridcolor": grid, "linecolor": grid, "zeroline": False, "showline": True, "automargin": True}
    return go.layout.Template(
        layout={
            "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
            "hoverlabel": {"bgcolor": card, "bordercolor": grid, "align": "left", "font": {"color": text}},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": text},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        }
    )


def describe(candidate: Candidate) -> str:
    """What hovering over a candidate shows: every reading with its spread and how it was obtained."""
    lines = [f"<b>network {candidate.number}</b>" + (" (over budget)" if candidate.over else "")]
    lines += [f"{html.escape(name)} {html.escape(r.text())}, {r.how}" for name, r in candidate.readings.items()]
    if candidate.test is not None:
        lines.append(f"acc on the test split {html.escape(candidate.test.text())}, {candidate.test.how}")
    return "<br>".join([*lines, html.escape(candidate.summary)])


def points(
    name: str, candidates: Sequence[Candidate], x: Sequence[float], y: Sequence[float], **style: Any
) -> go.Scatter:
    """One point per candidate, described when hovered over; in the legend only if there are any."""
    text = [describe(candidate) for candidate in candidates]
    shown = {"name": name, "showlegend": bool(candidates), "hoverinfo": "text"}
    return go.Scatter(x=list(x), y=list(y), mode="markers", text=text, **shown, **style)


def searched(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Markers coloured by the number of the evaluation, with the scale."""
    scale = {"title": {"text": "evaluation", "side": "right"}, "thickness": 10, "outlinewidth": 0}
    numbers = [candidate.number for candidate in candidates]
    return {"color": numbers, "colorscale": ORDER, "size": 7, "showscale": bool(numbers), "colorbar": scale}


def tested(candidates: Sequence[Candidate], x: Sequence[float], y: Sequence[float]) -> go.Scatter:
    """The front once more, with its accuracy on the test split."""
    marker = {"symbol": "diamond-open", "size": 9, "color": TEST, "line": {"width": 2}}
    return points("front on the test split", candidates, x, y, marker=marker)


CROSS: Mapping[str, Any] = {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": GREY}}
DOT: Mapping[str, Any] = {"color": FRONT, "size": 10, "line": {"width": 1, "color": "#ffffff"}}


def values(candidates: Sequence[Candidate], metric: Metric) -> list[float]:
    """One metric of every candidate."""
    return [candidate.readings[metric.name].value for candidate in candidates]


def cost(candidate: Candidate, metric: Metric) -> float:
    """The value such that less is better."""
    return metric.cost(candidate.readings[metric.name])


def bars(candidates: Sequence[Candidate], metric: Metric, *, faint: bool = False) -> dict[str, Any]:
    """Error bars over the 95 % intervals; where none is known there is no bar."""
    spans = [(r.value, *(r.interval or (r.value, r.value))) for r in (c.readings[metric.name] for c in candidates)]
    lengths = {"array": [high - v for v, _, high in spans], "arrayminus": [v - low for v, low, _ in spans]}
    return {"type": "data", "symmetric": False, **lengths, **(thin() if faint else {"thickness": 1.5, "width": 4})}


def thin() -> dict[str, Any]:
    """Error bars that do not hide many points."""
    return {"thickness": 1, "width": 0, "color": "rgba(139, 149, 165, 0.45)"}


def axes(metrics: Mapping[str, Metric], shown: Sequence[Candidate], limits: Sequence[Limit]) -> dict[str, Any]:
    """What a menu has to set so that the axes `x` and `y` show these metrics, with their budgets as lines."""
    layout: dict[str, Any] = {}
    lines = []
    for letter, metric in metrics.items():
        layout[f"{letter}axis.title.text"] = title(metric)
        layout[f"{letter}axis.tickformat"] = ticks(metric)
        layout |= {f"{letter}axis.{name}": value for name, value in scale(values(shown, metric)).items()}
        layout[f"{letter}axis.autorange"] = True
        drawn = [limit for limit in limits if limit.metric == metric and not limit.relative]
        lines += [_budget(letter, limit, _middle(values(shown, metric))) for limit in drawn]
    return layout | {"shapes": lines}


def underscored(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Names of properties as `update_layout` wants them, from those that a menu wants."""
    return {name.replace(".", "_"): value for name, value in layout.items()}


def title(metric: Metric) -> str:
    """The metric with its unit."""
    return f"{metric.title}{UNITS.get(metric.unit, '')}"


def ticks(metric: Metric) -> str:
    """How Plotly writes the metric's numbers."""
    return TICKS.get(metric.unit, ".3~s")


def scale(numbers: Sequence[float]) -> dict[str, Any]:
    """The type of axis that the numbers need; a logarithmic one has ticks at 1, 2 and 5, or at powers of ten only."""
    if not numbers or not 0 < min(numbers) * LOG_FROM < max(numbers):
        return {"type": "linear", "dtick": None}
    return {"type": "log", "dtick": "D2" if max(numbers) < 1000 * min(numbers) else 1}


def diagonal(numbers: Sequence[float]) -> go.Scatter:
    """The line of equal values across the range of `numbers`."""
    ends = [min(numbers), max(numbers)]
    return go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1, "dash": "dot"}, hoverinfo="skip")


def _middle(numbers: Sequence[float]) -> float:
    """What is halfway along the axis that shows `numbers`."""
    low, high = min(numbers), max(numbers)
    return float((low * high) ** 0.5) if scale(numbers)["type"] == "log" else (low + high) / 2


def _budget(letter: str, limit: Limit, middle: float) -> dict[str, Any]:
    across = "y" if letter == "x" else "x"
    ends = {f"{letter}0": limit.value, f"{letter}1": limit.value, f"{across}0": 0, f"{across}1": 1}
    # Level, at the upper or right end of the line and towards the middle of the plot, where nothing cuts it off.
    beyond = limit.value > middle
    upper = {"xanchor": "right" if beyond else "left", "yanchor": "top"}
    right = {"xanchor": "right", "yanchor": "top" if beyond else "bottom"}
    place = {"textposition": "end", "textangle": 0, "padding": 6, **(upper if letter == "x" else right)}
    label = {"text": f"budget {html.escape(limit.text())}", "font": {"color": BUDGET, "size": 12}, **place}
    line = {"color": BUDGET, "width": 1.5, "dash": "dash"}
    return {"type": "line", f"{across}ref": "paper", **ends, "line": line, "label": label}
