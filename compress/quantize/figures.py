"""The figures of a quantization's report, one function each."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping

import plotly.graph_objects as go

from wb.compress.quantize.record import Candidate, Quantization
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.precision import PRECISIONS
from wb.page.look import BLUE, COLOURS, FRONT, GREY, axes, bars, underscored


def sensitivity_figure(record: Quantization) -> go.Figure:
    """Output error of every group quantized alone, in each precision, on a logarithmic scale; zeros are left out."""
    figure = go.Figure(layout={"height": 440})
    names = list(dict.fromkeys(one.group for one in record.sensitivities))
    chosen = {group.name: group.precision for group in record.groups}
    kinds = [p for p in PRECISIONS if any(one.precision == p for one in record.sensitivities)]
    for precision, colour in zip(kinds, COLOURS, strict=False):
        shown = [one for one in record.sensitivities if one.precision == precision and one.error > 0]
        dots = go.Scatter(x=[html.escape(one.group) for one in shown], y=[one.error for one in shown], mode="markers")
        filled = [chosen.get(one.group) == precision for one in shown]
        dots.update(
            name=f"{precision} (filled: chosen)",
            marker={
                "color": colour,
                "size": 9,
                "symbol": ["circle" if one else "circle-open" for one in filled],
                "line": {"width": 1.5},
            },
            text=[f"{html.escape(one.group)} in {precision}: {one.error:.3g}, saves {one.saved} B" for one in shown],
            hoverinfo="text",
        )
        figure.add_trace(dots)
    # The order is given by name, because a group without a dot in the first precision would come last.
    figure.update_xaxes(categoryorder="array", categoryarray=[html.escape(name) for name in names], tickangle=-60)
    kind = record.error.kind if record.error else "error"
    return figure.update_yaxes(type="log", title_text=kind, exponentformat="power", dtick=1)


def candidates_figure(record: Quantization) -> go.Figure:
    """Size against quality of the assessed candidates, with the float graph and the chosen policy."""
    size, quality = METRICS["size"], record.metric
    shown = [one for one in record.candidates if {size.name, quality.name} <= one.readings.keys()]
    x, y = ([one.readings[metric.name].value for one in shown] for metric in (size, quality))
    figure = go.Figure(layout={"height": 420, "hovermode": "closest"})
    points = go.Scatter(x=x, y=y, mode="markers", name="assessed", text=[_describe(one) for one in shown])
    points.update(marker={"color": BLUE, "size": 8}, hoverinfo="text")
    points.update(error_y=bars([one.readings[quality.name] for one in shown], faint=True))
    figure.add_trace(points)
    ends: list[tuple[str, Mapping[str, Reading], str, str]] = [
        ("chosen", record.quantized, FRONT, "circle"),
        ("float", record.floating, GREY, "diamond"),
    ]
    for name, readings, colour, symbol in ends:
        across, up = (readings[metric.name] for metric in (size, quality))
        point = go.Scatter(x=[across.value], y=[up.value], mode="markers", name=name)
        point.update(marker={"color": colour, "size": 12, "symbol": symbol}, error_y=bars([up], faint=True))
        figure.add_trace(point.update(hovertemplate="%{x:.4s}B, %{y:.2%}<extra>%{fullData.name}</extra>"))
        x, y = [*x, across.value], [*y, up.value]
    limits = [
        limit.against(record.first[limit.metric.name])
        for limit in record.limits.values()
        if limit.metric in (size, quality)
    ]
    return figure.update_layout(underscored(axes({"x": (size, x), "y": (quality, y)}, limits)))


def _describe(candidate: Candidate) -> str:
    counts = Counter(candidate.choice.values())
    kept = ", ".join(f"{count} in {precision}" for precision, count in sorted(counts.items()))
    lines = [f"{name} {html.escape(reading.text())}" for name, reading in candidate.readings.items()]
    return "<br>".join([f"<b>{kept or 'all in fp32'}</b>", *lines])
