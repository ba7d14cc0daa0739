"""The report's figures, one function each."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import plotly.graph_objects as go

from wb.core.measures.metrics import Limit, Metric
from wb.core.statistics.scores import Z95
from wb.core.system.durations import duration
from wb.page.look import (
    BLUE,
    FRONT,
    GREY,
    ORDER,
    axes,
    bars,
    diagonal,
    line_name,
    scale,
    thin,
    ticks,
    title,
    underscored,
)
from wb.search.page.traces import (
    CROSS,
    Candidate,
    chosen,
    cost,
    known,
    level,
    points,
    readings,
    ringed,
    searched,
    tested,
    values,
)


@dataclass(frozen=True)
class Beside:
    """What a figure shows beside evaluations: the network of the front that is recommended, and known networks."""

    best: Candidate | None = None
    known: Sequence[Candidate] = ()


def front_figure(
    metrics: Sequence[Metric],
    front: Sequence[Candidate],
    others: Sequence[Candidate],
    limits: Sequence[Limit],
    beside: Beside | None = None,
) -> go.Figure:
    """Scatter plot of all evaluations in two objectives; with three or four objectives a menu selects which two."""
    planes = _planes(metrics)
    beside = beside or Beside()
    drawn = [_plane(x, y, front, others, beside) for x, y in planes]
    every = [*front, *others, *beside.known]
    layouts = [axes({"x": (x, _known(every, x)), "y": (y, _known(every, y))}, limits) for x, y in planes]
    figure = go.Figure(drawn[0], {"height": 560, "hovermode": "closest"})
    figure.update_layout(underscored(layouts[0]))
    if len(planes) > 1:
        buttons = [
            {"label": f"{y.title} against {x.title}", "method": "update", "args": [_restyle(traces), layout]}
            for (x, y), traces, layout in zip(planes, drawn, layouts, strict=True)
        ]
        # Below the axis, where it overlaps neither the legend nor the edge of a narrow page.
        menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": -0.24, "yanchor": "top", "direction": "up"}
        colours = {"bgcolor": "#eef1f5", "bordercolor": GREY, "font": {"color": "#3b4454"}}
        figure.update_layout(updatemenus=[menu | colours], margin_b=130)
    return figure


def progress_figure(
    metric: Metric, front: Sequence[Candidate], others: Sequence[Candidate], limits: Sequence[Limit]
) -> go.Figure:
    """Values of one objective in the order of evaluation, and the best so far."""
    within = sorted((c for c in [*front, *others] if not c.over), key=_place)
    best = min if metric.direction == "minimize" else max
    found = values(within, metric)
    steps = [best(found[: i + 1]) for i in range(len(found))]
    line = go.Scatter(x=_numbers(within), y=steps, name="best so far", mode="lines", hoverinfo="skip")
    traces = [line.update(line={"color": BLUE, "shape": "hv"})]
    for name, some, style in _groups(front, others):
        spread = {"error_y": bars(readings(some, metric))} if some is front else {}
        traces.append(points(name, some, _numbers(some), values(some, metric), **style, **spread))
    traces[1].update(marker={"color": GREY, "showscale": False})  # the axis says the order already
    if metric.quality:
        known = [c for c in front if c.test is not None]
        traces.append(tested(known, _numbers(known), [c.test.value for c in known if c.test is not None]))
    figure = go.Figure(traces, {"height": 460, "hovermode": "closest", "xaxis": {"title": {"text": "evaluation"}}})
    return figure.update_layout(underscored(axes({"y": (metric, values([*front, *others], metric))}, limits)))


def hypervolume_figure(curve: Sequence[float], first_batch: int) -> go.Figure:
    """Hypervolume against evaluations; a line marks the end of the first `first_batch` ones, proposed without predictors."""
    line = {"color": BLUE, "shape": "hv", "width": 2}
    figure = go.Figure(
        go.Scatter(x=list(range(1, len(curve) + 1)), y=list(curve), mode="lines", line=line, name="hypervolume")
    )
    if 0 < first_batch < len(curve):
        figure.add_vline(first_batch + 0.5, **line_name("predictions guide from here", GREY))
    figure.update_yaxes(title_text="hypervolume", rangemode="tozero")
    return figure.update_layout(height=360, xaxis_title_text="evaluations")


def predictions_figure(metric: Metric, index: int, candidates: Sequence[Candidate]) -> go.Figure:
    """Predicted against evaluated values of objective number `index`, with the diagonal."""
    some = [c for c in candidates if c.predicted is not None]
    found, predicted = values(some, metric), [c.predicted[index] for c in some if c.predicted is not None]
    spread = [Z95 * c.deviation[index] if c.deviation is not None else 0.0 for c in some]
    marker = {"color": _numbers(some), "colorscale": ORDER, "size": 7}
    across, up = bars(readings(some, metric), faint=True), {"type": "data", "array": spread, **thin()}
    dots = points(metric.name, some, found, predicted, marker=marker, error_x=across, error_y=up)
    figure = go.Figure([diagonal([*found, *predicted]), dots], {"height": 380, "hovermode": "closest"})
    kind = scale(found) if min(predicted) > 0 else {}
    figure.update_xaxes(title_text=f"{title(metric)}, {some[0].readings[metric.name].how}")
    figure.update_yaxes(title_text=f"{title(metric)}, predicted")
    figure.update_xaxes(tickformat=ticks(metric), **kind).update_yaxes(tickformat=ticks(metric), **kind)
    return figure.update_layout(showlegend=False)


def table_figure(numbers: Sequence[int], measured: Sequence[float], estimated: Sequence[float]) -> go.Figure:
    """Sum of the latencies of blocks against the latency of the whole graph, in ms."""
    rows = zip(numbers, measured, estimated, strict=True)
    text = [
        f"<b>network {n}</b><br>whole graph {m:.4g} ms, measured<br>blocks ~{e:.4g} ms, predicted" for n, m, e in rows
    ]
    dots = go.Scatter(x=list(measured), y=list(estimated), mode="markers", text=text, hoverinfo="text")
    dots.update(marker={"color": BLUE, "size": 9})
    figure = go.Figure([diagonal([*measured, *estimated]), dots], {"height": 380, "showlegend": False})
    figure.update_xaxes(title_text="whole graph in ms, measured")
    return figure.update_yaxes(title_text="sum of its blocks in ms, predicted")


def seconds_figure(seconds: Mapping[str, float], label: str) -> go.Figure:
    """Horizontal bars of wall time, the first on top."""
    found = list(seconds.values())
    bar = go.Bar(x=found, y=[html.escape(name) for name in seconds], orientation="h", hoverinfo="skip")
    bar.update(text=[duration(value) for value in found], textposition="outside", cliponaxis=False, marker_color=BLUE)
    figure = go.Figure(bar, {"height": 110 + 34 * len(found), "bargap": 0.35})
    figure.update_xaxes(title_text=label, range=[0, 1.25 * max(found)])  # room for the text beside the longest bar
    return figure.update_yaxes(autorange="reversed")


def _planes(metrics: Sequence[Metric]) -> list[tuple[Metric, Metric]]:
    """The pairs (x, y) of objectives, quality always as y; the pair of quality and the last objective comes first."""
    ordered = sorted(metrics, key=lambda metric: not metric.quality)
    return sorted(
        ((b, a) for a, b in combinations(ordered, 2)), key=lambda pair: (pair[1] != ordered[0], pair[0] != ordered[-1])
    )


def _groups(
    front: Sequence[Candidate], others: Sequence[Candidate]
) -> list[tuple[str, Sequence[Candidate], dict[str, Any]]]:
    within, over = [c for c in others if not c.over], [c for c in others if c.over]
    return [
        ("evaluated", within, {"marker": searched(within)}),
        ("over budget", over, {"marker": CROSS}),
        ("front", front, {"marker": chosen(front)}),
    ]


def _plane(
    x: Metric, y: Metric, front: Sequence[Candidate], others: Sequence[Candidate], beside: Beside
) -> list[go.Scatter]:
    edge = _edge(x, y, front)
    line = {"color": FRONT, "width": 1.5, "shape": "hv" if x.direction == "minimize" else "vh"}
    step = go.Scatter(x=values(edge, x), y=values(edge, y), mode="lines", hoverinfo="skip", showlegend=False)
    traces = [step.update(line=line)]
    for name, some, style in _groups(front, others):
        spread = {"error_x": bars(readings(some, x)), "error_y": bars(readings(some, y))} if some is front else {}
        traces.append(points(name, some, values(some, x), values(some, y), **style, **spread))
    if beside.best is not None:
        traces.append(ringed(beside.best, *(beside.best.readings[metric.name].value for metric in (x, y))))
    if beside.known:
        both = [c for c in beside.known if {x.name, y.name} <= c.readings.keys()]
        every = _known([*front, *others, *both], x)
        traces.append(known(both, values(both, x), values(both, y), _middle(every)))
        alone = [c for c in beside.known if c.readings.keys() == {y.name}] if every else []
        traces.append(level(alone, (min(every), max(every)) if every else (0.0, 0.0), values(alone, y)))
    seen = [c for c in front if c.test is not None] if x.quality or y.quality else []
    return [*traces, tested(seen, *([_on_test(c, metric) for c in seen] for metric in (x, y)))]


def _middle(numbers: Sequence[float]) -> float:
    """What stands in the middle of an axis that shows `numbers`; 0 if there are none."""
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    return math.sqrt(low * high) if scale(numbers)["type"] == "log" else (low + high) / 2


def _known(candidates: Sequence[Candidate], metric: Metric) -> list[float]:
    """The values of those that have a reading of the metric; known networks may lack some."""
    return values([candidate for candidate in candidates if metric.name in candidate.readings], metric)


def _on_test(candidate: Candidate, metric: Metric) -> float:
    reading = candidate.test if metric.quality else None
    return (reading or candidate.readings[metric.name]).value


def _restyle(traces: Sequence[go.Scatter]) -> dict[str, list[Any]]:
    """The changes that a menu entry applies to the traces of one plane to get those of another."""
    plain = [trace.to_plotly_json() for trace in traces]
    keys = ("x", "y", "text", "hovertext", "textposition", "error_x", "error_y", "showlegend")
    shapes = [trace.get("line", {}).get("shape", "linear") for trace in plain]
    return {key: [trace.get(key) for trace in plain] for key in keys} | {"line.shape": shapes}


def _edge(x: Metric, y: Metric, front: Sequence[Candidate]) -> list[Candidate]:
    """The points of the front that are not dominated within this plane of two objectives, from left to right."""
    edge: list[Candidate] = []
    for candidate in sorted(front, key=lambda c: (cost(c, x), cost(c, y))):
        if not edge or cost(candidate, y) < cost(edge[-1], y):
            edge.append(candidate)
    return edge if x.direction == "minimize" else edge[::-1]


def _numbers(candidates: Sequence[Candidate]) -> list[int]:
    return [_place(candidate) for candidate in candidates]


def _place(candidate: Candidate) -> int:
    """Where it stands in the order of evaluation: a twin where its network does."""
    return candidate.number if candidate.place is None else candidate.place
