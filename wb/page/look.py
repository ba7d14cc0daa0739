"""The style of all figures: colours, axes of a metric, error bars, and a figure as HTML.

Text that comes from files has to be escaped before it becomes part of a figure: Plotly reads it as HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup, escape
from plotly.colors import qualitative

from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.page.alt import described

FRONT, TEST, BUDGET, BLUE, GREY = "#f76707", "#0ca678", "#e64980", "#3b82f6", "#8b95a5"
COLOURS = ("#4c78c8", "#12927f", "#8a63d2", "#b86a08", "#d0496e", "#5b8c2a", "#a0652f", "#2f86a8")  # of categories
# Of categories that there may be more of, kinds of parts for example: Plotly's, without those that are black on a dark page.
_DARK = ("#222A2A", "#620042", "#1616A7", "#0D2A63")  # on black they are not seen
_MORE = (
    "#C4451C",
    "#AA0DFE",
    "#1C8356",
    "#85660D",
    "#325A9B",
    "#B10DA1",
    "#6A76FC",
    "#855C75",
)  # of others of Plotly's, far away
MANY = (*(c for c in qualitative.Dark24 if c not in _DARK), *_MORE)
ORDER = [[0, "#b3bdca"], [0.5, "#6f9fe0"], [1, "#3565d8"]]  # colour scale, early to late; visible on white and on black
TICKS = {"fraction": ".3~%", "ms": ".3~g", "x": ".3~g"}  # all other units are counts and get an SI prefix
UNITS = {"fraction": "", "x": "", "ms": " in ms", "B": " in bytes", "pJ": " in pJ"}
LOG_FROM = 20  # an axis is logarithmic if the largest value exceeds the smallest by this factor
HEIGHT = 450  # default height of a figure in pixels
LONG, WIDE = (
    24,
    44,
)  # letters of a vertical and of a horizontal axis title; longer ones are broken in two to fit a small screen
SPAN = 0.05  # the least range of an accuracy axis; on a smaller one a single image would look like a large difference
# Types of traces that the bundled library (`plotly-cartesian.min.js`) can draw; others would leave an empty space.
DRAWN = frozenset({"bar", "box", "contour", "heatmap", "histogram", "image", "pie", "scatter", "violin"})
# The buttons are listed explicitly, because one of Plotly's default buttons sends the data to a server.
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]]}


def template(*, dark: bool) -> go.layout.Template:
    """The Plotly template of all figures; the page switches between the light and the dark one, as the reader's system does."""
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


def figure_html(name: str, figure: go.Figure) -> Markup:
    """The figure as HTML for `wb.page.page.render`, with alternative text, in an element with the id `figure-NAME`.

    Raises:
        ValueError: `name` has characters other than letters, digits, `_`, `.` and `-`, or the bundled library cannot draw it.
    """
    if not re.fullmatch(r"[\w.-]+", name):  # Plotly writes it into its script without escaping
        raise ValueError(f"{name!r} cannot be part of an id")
    kinds = {trace.type for trace in figure.data} - DRAWN
    if kinds:
        raise ValueError(
            f"pages cannot draw {', '.join(sorted(kinds))}; they carry a library for {', '.join(sorted(DRAWN))}"
        )
    drawn = (
        _broken(go.Figure(figure))
        .update_layout(template=template(dark=False))
        .to_html(
            config=CONFIG,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{name}",
            default_height=f"{figure.layout.height or HEIGHT}px",
        )
    )
    words = escape(described(figure))
    # Plotly writes its data as JSON without < and >.
    return Markup(f'<div class="plot" role="img" aria-label="{words}">{drawn}</div><noscript><p>{words}</p></noscript>')


def broken(title: str, most: int = LONG) -> str:
    """`title`, broken into two lines if it has more than `most` letters."""
    spaces = [i for i, sign in enumerate(title) if sign == " "]
    if len(title) <= most or not spaces or "<" in title:
        return title
    middle = min(spaces, key=lambda i: abs(2 * i - len(title)))
    return f"{title[:middle]}<br>{title[middle + 1 :]}"


def _broken(figure: go.Figure) -> go.Figure:
    """Breaks long titles of axes and panels into two lines, in place; returns `figure`."""
    figure.for_each_yaxis(lambda axis: axis.update(title_text=broken(axis.title.text or "")))
    figure.for_each_xaxis(lambda axis: axis.update(title_text=broken(axis.title.text or "", WIDE)))
    figure.for_each_annotation(lambda note: note.update(text=broken(note.text or "")))
    return figure


def bars(readings: Sequence[Reading], *, faint: bool = False) -> dict[str, Any]:
    """Error bars of the 95 % intervals; a reading without an interval gets no bar."""
    spans = [(r.value, *(r.interval or (r.value, r.value))) for r in readings]
    lengths = {"array": [high - v for v, _, high in spans], "arrayminus": [v - low for v, low, _ in spans]}
    return {"type": "data", "symmetric": False, **lengths, **(thin() if faint else {"thickness": 1.5, "width": 4})}


def thin() -> dict[str, Any]:
    """The style of thin, faint error bars, for plots with many points."""
    return {"thickness": 1, "width": 0, "color": "rgba(139, 149, 165, 0.45)"}


def axes(shown: Mapping[str, tuple[Metric, Sequence[float]]], limits: Sequence[Limit] = ()) -> dict[str, Any]:
    """Layout settings, as a menu takes them, that make axes show the given metrics and values, with budgets as lines.

    `shown` maps the axis (`x`, `y`) to its metric and values.
    """
    layout: dict[str, Any] = {}
    lines = []
    for letter, (metric, numbers) in shown.items():
        layout[f"{letter}axis.title.text"] = title(metric)
        layout[f"{letter}axis.tickformat"] = ticks(metric)
        layout |= {f"{letter}axis.{name}": value for name, value in scale(numbers).items()}
        layout[f"{letter}axis.autorange"] = True
        layout[f"{letter}axis.autorangeoptions.include"] = _room(metric, numbers)
        drawn = [limit for limit in limits if limit.metric == metric and not limit.relative]
        lines += [_budget(letter, limit) for limit in drawn]
    return layout | {"shapes": lines}


def underscored(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Converts property names from a menu's form (`xaxis.title`) to that of `update_layout` (`xaxis_title`)."""
    return {name.replace(".", "_"): value for name, value in layout.items()}


def title(metric: Metric) -> str:
    """The title of the metric, with its unit."""
    return f"{metric.title}{UNITS.get(metric.unit, '')}"


def ticks(metric: Metric) -> str:
    """Plotly's number format for the metric."""
    return TICKS.get(metric.unit, ".3~s")


def scale(numbers: Sequence[float]) -> dict[str, Any]:
    """Axis type for the numbers: linear, or logarithmic with ticks at 1, 2 and 5 or (wide ranges) at powers of ten."""
    if not numbers or not 0 < min(numbers) * LOG_FROM < max(numbers):
        return {"type": "linear", "dtick": None}
    return {"type": "log", "dtick": "D2" if max(numbers) < 1000 * min(numbers) else 1}


def _room(metric: Metric, numbers: Sequence[float]) -> list[float] | None:
    """Values that an axis of fractions has to include, so that it spans at least `SPAN`; None for other metrics."""
    if metric.unit != "fraction" or not numbers:
        return None
    middle = (min(numbers) + max(numbers)) / 2
    return [max(0.0, middle - SPAN / 2), min(1.0, middle + SPAN / 2)]


def diagonal(numbers: Sequence[float]) -> go.Scatter:
    """The line of equal values across the range of `numbers`."""
    ends = [min(numbers), max(numbers)]
    return go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1, "dash": "dot"}, hoverinfo="skip")


def line_name(text: str, colour: str, **style: Any) -> dict[str, Any]:
    """Properties that name a line in the legend; a label beside the line would cover points."""
    return {"name": text, "showlegend": True, "line": {"color": colour, "width": 1.5, "dash": "dash"} | style}


def _budget(letter: str, limit: Limit) -> dict[str, Any]:
    across = "y" if letter == "x" else "x"
    ends = {f"{letter}0": limit.value, f"{letter}1": limit.value, f"{across}0": 0, f"{across}1": 1}
    name = line_name(f"budget {html.escape(limit.text())}", BUDGET)
    return {"type": "line", f"{across}ref": "paper", **ends, **name}
