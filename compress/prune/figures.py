"""The figures of a pruning's report, one function each. Names of axes come from the workbench and need no escaping."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wb.compress.prune.record import Pruning
from wb.core.architecture import axis_sizes, kind_of_axis, kinds_of_axes
from wb.core.measures.metrics import Metric
from wb.core.measures.readings import Reading
from wb.page.look import BLUE, COLOURS, FRONT, GREY, TEST, axes, bars, underscored

PER_ROW = 2


def redistribution_figure(record: Pruning) -> go.Figure:
    """Sizes of every axis of every block before and after, one plot per kind of axis."""
    before = axis_sizes(record.architecture)
    kinds = kinds_of_axes([record.architecture])
    rows = -(-len(kinds) // PER_ROW)
    titles = [dim.title for dim in kinds.values()]
    figure = make_subplots(rows, PER_ROW, subplot_titles=titles, vertical_spacing=0.22 / max(rows, 1) + 0.06)
    models = {"before": (before, GREY)}
    for result, colour in zip(record.results, (FRONT, *COLOURS), strict=False):
        models[f"after, {html.escape(result.name)}"] = (axis_sizes(result.architecture), colour)
    for i, kind in enumerate(kinds):
        places = [axis.rsplit(".", 1)[0] for axis in before if axis.endswith(f".{kind}")]
        for name, (sizes, colour) in models.items():
            heights = [sizes.get(f"{place}.{kind}", 0) for place in places]
            bar = go.Bar(x=places, y=heights, name=name, marker_color=colour, legendgroup=name, showlegend=i == 0)
            bar.update(hovertemplate=f"%{{x}}: %{{y}} {kind}<extra>{name}</extra>")
            figure.add_trace(bar, i // PER_ROW + 1, i % PER_ROW + 1)
    figure.update_yaxes(rangemode="tozero")
    return figure.update_layout(height=60 + 260 * rows, bargap=0.2, legend={"y": 1.08 if rows > 1 else 1.16})


def shares_figure(record: Pruning) -> go.Figure:
    """Share of each sub-layer in the parameters of its model, before and after."""
    figure = go.Figure()
    models: list[tuple[str, Mapping[str, int], str]] = [("before", record.parts, GREY)]
    models += [
        (f"after, {html.escape(result.name)}", result.parts, colour)
        for result, colour in zip(record.results, (FRONT, *COLOURS), strict=False)
    ]
    names = [html.escape(name) for name in record.parts]
    for name, parts, colour in models:
        counts = [parts.get(part, 0) for part in record.parts]
        total = sum(counts) or 1
        bar = go.Bar(x=names, y=[count / total for count in counts], name=name, marker_color=colour)
        bar.update(customdata=counts, hovertemplate="%{x}: %{y:.1%}, %{customdata} parameters<extra></extra>")
        figure.add_trace(bar)
    figure.update_yaxes(title_text="share of the parameters", tickformat=".0%")
    return figure.update_layout(height=360, bargap=0.2)


def spectrum_figure(record: Pruning) -> go.Figure:
    """Saliency of the units of every axis in the first round, from high to low; units of zero saliency are left out."""
    figure = go.Figure()
    titles = {kind: dim.title for kind, dim in kinds_of_axes([record.architecture]).items()}
    kinds = list(dict.fromkeys(_kind(name) for name in record.spectrum))
    for name, values in record.spectrum.items():
        kind = _kind(name)
        shown = [value for value in values if value > 0]
        if len(shown) < 2:
            continue
        colour = COLOURS[kinds.index(kind) % len(COLOURS)]
        x = [i / (len(values) - 1) for i in range(len(shown))]
        first = not any(trace.legendgroup == kind for trace in figure.data)
        line = go.Scatter(x=x, y=shown, mode="lines", line={"color": colour, "width": 1.5}, opacity=0.8)
        line.update(name=titles.get(kind, kind), legendgroup=kind, showlegend=first)
        figure.add_trace(line.update(hovertemplate=f"{html.escape(name)}: %{{y:.2e}} at %{{x:.0%}}<extra></extra>"))
    figure.update_yaxes(type="log", title_text="saliency of a unit", exponentformat="power", dtick=1)
    figure.update_xaxes(title_text="share of the axis, the most salient first", tickformat=".0%")
    return figure.update_layout(height=440)


def progress_figure(record: Pruning, metric: Metric) -> go.Figure:
    """Quality against one cost: the dense model, every round, and the results after fine-tuning."""
    both = (metric, record.metric)
    along: list[Mapping[str, Reading]] = [record.dense]
    rounds = {f"round {i + 1}": round_.readings for i, round_ in enumerate(record.rounds)}
    rounds = {name: readings for name, readings in rounds.items() if {m.name for m in both} <= readings.keys()}
    along += rounds.values()
    x, y = ([readings[m.name].value for readings in along] for m in both)
    names = ["dense", *rounds]
    hover = [_describe(name, readings) for name, readings in zip(names, along, strict=True)]
    path = go.Scatter(x=x, y=y, mode="lines+markers", name="rounds, before fine-tuning", text=hover, hoverinfo="text")
    path.update(line={"color": BLUE}, marker={"size": 7}, **_spread(both, along))
    figure = go.Figure(path, {"height": 460, "hovermode": "closest"})
    for name, colour, symbol, found in _ends(record):
        across, up = ([readings[m.name].value for readings in found] for m in both)
        points = go.Scatter(x=across, y=up, mode="markers", name=name)
        points.update(text=[_describe(name, r) for r in found], hoverinfo="text", **_spread(both, found))
        figure.add_trace(points.update(marker={"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2}}))
    return figure.update_layout(underscored(axes({"x": (metric, x), "y": (record.metric, y)})))


def _spread(metrics: tuple[Metric, Metric], found: Sequence[Mapping[str, Reading]]) -> dict[str, object]:
    """Error bars of every point for its known intervals, along both axes."""
    across, up = ([readings[metric.name] for readings in found] for metric in metrics)
    return {"error_x": bars(across, faint=True), "error_y": bars(up, faint=True)}


def _ends(record: Pruning) -> list[tuple[str, str, str, list[Mapping[str, Reading]]]]:
    """The final models' readings: fine-tuned models on validation, dense and fine-tuned ones on the test split."""
    if not record.results:
        return []
    after: list[Mapping[str, Reading]] = [result.after for result in record.results]
    tested: list[Mapping[str, Reading]] = [{**r.after, record.quality: r.test} for r in record.results]
    if record.dense_test is not None:
        tested = [{**record.dense_final, record.quality: record.dense_test}, *tested]
    return [("final", FRONT, "circle", after), ("on the test split", TEST, "diamond-open", tested)]


def _describe(name: str, readings: Mapping[str, Reading]) -> str:
    lines = [f"{html.escape(metric)} {html.escape(r.text())}, {r.how}" for metric, r in readings.items()]
    return "<br>".join([f"<b>{html.escape(name)}</b>", *lines])


def _kind(name: str) -> str:
    """The kind of an axis, escaped for HTML."""
    return html.escape(kind_of_axis(name))
