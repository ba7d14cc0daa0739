"""The figures of an aspect sweep, one function each."""

from __future__ import annotations

import plotly.graph_objects as go

from wb.jobs.sweep.record import PUBLISHED, AspectSweep, Timing
from wb.jobs.sweep.shapes import ARMS, Arm
from wb.page.look import BLUE, BUDGET, COLOURS, FRONT, bars, line_name, ticks, title

_COLOURS: dict[Arm, str] = {"heads": BLUE, "size": FRONT}


def quality_figure(record: AspectSweep) -> go.Figure:
    """The task's metric on the test split against latency: means over seeds joined by arm, and every training."""
    figure, timing = go.Figure(layout={"height": 440}), record.timings[0]
    for arm, named in ARMS.items():
        shapes = [shape for shape in record.shapes if shape.arm == arm or shape is record.deepest]
        latencies, means = [timing.latencies[one.name] for one in shapes], [record.quality_of(one) for one in shapes]
        line = go.Scatter(x=[one.value for one in latencies], y=[one.value for one in means], mode="lines+markers")
        line.update(
            name=named, marker={"color": _COLOURS[arm], "size": 10}, line={"color": _COLOURS[arm], "dash": "dot"}
        )
        line.update(error_x=bars(latencies), error_y=bars(means), text=[shape.name for shape in shapes])
        figure.add_trace(line.update(hovertemplate="%{text}: %{y:.4~g} in %{x:.4g} ms<extra></extra>"))
        each = [(timing.latencies[one.name].value, reading.value) for one in shapes for reading in record.tests(one)]
        dots = go.Scatter(x=[x for x, _ in each], y=[y for _, y in each], mode="markers", showlegend=False)
        figure.add_trace(dots.update(marker={"color": _COLOURS[arm], "size": 4, "opacity": 0.5}, hoverinfo="skip"))
    figure.update_xaxes(title_text=f"{named_run(timing)} in ms", rangemode="tozero")
    return figure.update_yaxes(title_text=f"test {title(record.metric)}", tickformat=ticks(record.metric))


def speed_figure(record: AspectSweep) -> go.Figure:
    """How many times as fast as the deepest each shape is, by run; and what the paper says."""
    figure = go.Figure(layout={"height": 380, "barmode": "group", "bargap": 0.3})
    names = [shape.name for shape in record.shapes[1:]]
    for number, timing in enumerate(record.timings):
        found = [timing.faster[name] for name in names]
        bar = go.Bar(x=names, y=[one.value for one in found], name=named_run(timing), error_y=bars(found))
        bar.update(marker_color=COLOURS[number % len(COLOURS)])
        figure.add_trace(bar.update(hovertemplate="%{x}: %{y:.3g}x<extra>%{fullData.name}</extra>"))
    published = go.Scatter(x=names, y=[PUBLISHED] * len(names), mode="lines", hoverinfo="skip")
    figure.add_trace(published.update(line_name(f"the paper's widest: {PUBLISHED:g}x", BUDGET)))
    return figure.update_yaxes(title_text=f"times as fast as {record.deepest.name}", rangemode="tozero")


def named_run(timing: Timing) -> str:
    """`latency at 40 tokens`."""
    return timing.metric if timing.tokens is None else f"{timing.metric} at {timing.tokens} tokens"
