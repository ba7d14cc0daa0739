"""The figures of early exits, one function each."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from wb.compress.exits.record import EarlyExits
from wb.page.look import BLUE, COLOURS, FRONT, GREY, bars


def ladder_figure(record: EarlyExits) -> go.Figure:
    """Test accuracy against measured mean latency, a point for each rung, and the network without exits."""
    figure = go.Figure(layout={"height": 420})
    read = [
        (rung, rung.test, rung.latency) for rung in record.rungs if rung.test is not None and rung.latency is not None
    ]
    rungs, tests, latencies = zip(*sorted(read, key=lambda one: one[2].value), strict=True)
    colours = [FRONT if rung.beta == record.beta else BLUE for rung in rungs]
    line = go.Scatter(
        x=[one.value for one in latencies], y=[one.value for one in tests], mode="lines+markers", name="with exits"
    )
    line.update(marker={"color": colours, "size": 9}, line={"color": BLUE, "dash": "dot"}, error_x=bars(latencies))
    line.update(text=[rung.dial for rung in rungs], hovertemplate="%{text}: %{y:.2%} in %{x:.4g} ms<extra></extra>")
    figure.add_trace(line)
    test, latency = record.without["test"], record.without["latency"]
    alone = go.Scatter(x=[latency.value], y=[test.value], mode="markers", name="without exits")
    alone.update(marker={"color": GREY, "size": 12, "symbol": "diamond"}, error_x=bars([latency]))
    figure.add_trace(alone.update(hovertemplate="without: %{y:.2%} in %{x:.4g} ms<extra></extra>"))
    figure.update_xaxes(title_text="mean latency of an example in ms", rangemode="tozero")
    return figure.update_yaxes(title_text="test accuracy", tickformat=".1%")


def leaving_figure(record: EarlyExits) -> go.Figure:
    """Shares of test images by the exit that they leave by, stacked for each rung."""
    figure = go.Figure(layout={"height": 360, "barmode": "stack", "bargap": 0.3})
    betas = [rung.name for rung in record.rungs]
    for k, way in enumerate(record.ways):
        colour = GREY if k == len(record.after) else COLOURS[k % len(COLOURS)]
        name = html.escape("the end" if k == len(record.after) else f"after {way.name}")
        bar = go.Bar(x=betas, y=[rung.leaving[k] for rung in record.rungs], name=name, marker_color=colour)
        figure.add_trace(bar.update(hovertemplate="%{x}: %{y:.1%}<extra>%{fullData.name}</extra>"))
    figure.update_xaxes(title_text="beta", type="category")
    return figure.update_yaxes(title_text="share of test images", tickformat=".0%", range=[0, 1])
