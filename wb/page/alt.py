"""Alternative text of plots, for readers who cannot see them; generated from the figure, so that it is never out of date."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

_MOST = 12  # series that are described one by one


def described(figure: go.Figure) -> str:
    """Describes `figure` as plain text: its axes and, for each series, the number of values, the range and both ends."""
    content = figure.to_plotly_json()
    layout, traces = content.get("layout", {}), content.get("data", [])
    said = [text for trace in traces if (text := _series(trace, layout))]
    more = [f"and {len(said) - _MOST} more series"] if len(said) > _MOST else []
    return _plain(f"Plot of {_axes(layout) or 'values'}: {'; '.join([*said[:_MOST], *more]) or 'nothing yet'}.")


def _axes(layout: dict[str, Any]) -> str:
    """The titles of the axes, of all panels: `accuracy against latency in ms`."""
    found = {
        letter: [
            text for key in sorted(layout) if re.fullmatch(rf"{letter}axis\d*", key) and (text := _title(layout[key]))
        ]
        for letter in "yx"
    }
    return " against ".join(" and ".join(titles) for titles in found.values() if titles)


def _title(axis: dict[str, Any]) -> str:
    title = axis.get("title") or {}
    return str(title.get("text") or "") if isinstance(title, dict) else str(title)


def _series(trace: dict[str, Any], layout: dict[str, Any]) -> str:
    """Describes one series; empty for a series without values, or one that only draws a line through another."""
    name = trace.get("name") or ""
    if "z" in trace:
        cells = [cell for row in trace["z"] for cell in row]
        return f"{name or 'cells'}: {_range(cells)}"
    upright = trace.get("orientation") != "h"
    values, along = (trace.get("y"), trace.get("x")) if upright else (trace.get("x"), trace.get("y"))
    if values is None or not len(values) or (trace.get("hoverinfo") == "skip" and not name and trace["type"] != "bar"):
        return ""
    axis = layout.get("yaxis" + str(trace.get("yaxis") or "y")[1:], {})
    panel = f" ({_title(axis)})" if trace.get("yaxis") not in (None, "y") and _title(axis) else ""
    where = (
        "" if along is None or not len(along) else f", from {_at(along[0], values[0])} to {_at(along[-1], values[-1])}"
    )
    return f"{name or 'series'}{panel}: {_range(values)}{where}"


def _range(values: Iterable[Any]) -> str:
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if not numbers:
        return "no values"
    count = "1 value" if len(numbers) == 1 else f"{len(numbers)} values"
    return f"{count} of {min(numbers):.4g} to {max(numbers):.4g}" if len(numbers) > 1 else f"{count}, {numbers[0]:.4g}"


def _at(place: Any, value: Any) -> str:
    return " at ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in (value, place))


def _plain(text: str) -> str:
    """`text` without HTML tags and entities, which figures contain because text from files is escaped."""
    return html.unescape(re.sub(r"<[^<>]*>", " ", text))
