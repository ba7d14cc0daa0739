"""The figures of the report of a search from a trained model. Names of slots and networks need no escaping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from wb.core.measures.metrics import METRICS, Metric
from wb.core.measures.readings import Reading
from wb.page.look import BLUE, FRONT, GREY, TEST, axes, bars, underscored
from wb.search.trained.record import TrainedSearch

SMALLEST = 1e-6  # nats; below, divergences are rounding, and a logarithmic axis would show nothing else


def front_figure(record: TrainedSearch, metric: Metric) -> go.Figure:
    """Quality against one cost: the model, and the networks in the end, on validation and on test images."""
    quality = record.quality
    model, tested = {**record.dense_final}, {**record.dense_final}
    if record.dense_test is not None:
        tested[quality] = record.dense_test
    kept = [r for r in record.results if r.on_front]
    others = [r for r in record.results if not r.on_front]
    traces: list[tuple[str, str, str, Sequence[str], Sequence[Mapping[str, Reading]]]] = [
        ("the model", GREY, "square", ["the model"], [model]),
        ("networks of the front", FRONT, "circle", [r.name for r in kept], [r.after for r in kept]),
        ("other networks", FRONT, "circle-open", [r.name for r in others], [r.after for r in others]),
        (
            "on the test split",
            TEST,
            "diamond-open",
            ["the model", *(r.name for r in record.results)],
            [tested, *({**r.after, quality: r.test} for r in record.results)],
        ),
    ]
    figure = go.Figure(layout={"height": 460, "hovermode": "closest"})
    for name, colour, symbol, names, found in traces:
        if found:
            x, y = ([readings[m] for readings in found] for m in (metric.name, quality))
            points = go.Scatter(x=[r.value for r in x], y=[r.value for r in y], mode="markers", name=name)
            text = [f"<b>{n}</b><br>{a.text()}<br>{b.text()}" for n, a, b in zip(names, x, y, strict=True)]
            points.update(text=text, hoverinfo="text", error_x=bars(x, faint=True), error_y=bars(y, faint=True))
            figure.add_trace(points.update(marker={"color": colour, "size": 10, "symbol": symbol}))
    every = [model, *(r.after for r in record.results)]
    shown = {"x": metric, "y": record.metric}
    return figure.update_layout(
        underscored(axes({axis: (m, [readings[m.name].value for readings in every]) for axis, m in shown.items()}))
    )


def additivity_figure(record: TrainedSearch) -> go.Figure:
    """The measured divergence of choices against the sum of their scores, random choices and those of the networks."""
    own = [(one.name, one.predicted, one.measured) for one in record.made]
    drawn = [("a random choice", one.predicted, one.measured) for one in record.random]
    figure = go.Figure(layout={"height": 440, "hovermode": "closest"})
    for name, colour, symbol, found in (("random choices", BLUE, "circle", drawn), ("networks", FRONT, "diamond", own)):
        x, y = ([max(one[i], SMALLEST) for one in found] for i in (1, 2))
        points = go.Scatter(x=x, y=y, mode="markers", name=name, marker={"color": colour, "size": 9, "symbol": symbol})
        hover = [f"{n}<br>sum {a:.2g}, measured {b:.2g} nats" for n, a, b in found]
        figure.add_trace(points.update(text=hover, hoverinfo="text"))
    ends = [f(max(one[i], SMALLEST) for one in (*own, *drawn) for i in (1, 2)) for f in (min, max)]
    line = go.Scatter(x=ends, y=ends, mode="lines", name="as if they added up", line={"color": GREY, "dash": "dot"})
    figure.add_trace(line.update(hoverinfo="skip"))
    figure.update_xaxes(type="log", title_text="sum of scores, in nats", exponentformat="power", dtick=1)
    figure.update_yaxes(type="log", title_text="measured divergence, in nats", exponentformat="power", dtick=1)
    return figure


def metrics_of(record: TrainedSearch) -> list[Metric]:
    """The costs that there is a figure for: those with budgets."""
    return [METRICS[name] for name in record.limited]
