"""The figures of the depth report, one function each. Names of sub-layers and operators need no escaping."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wb.compress.depth.analysis import DepthAnalysis, Matrix, SublayerRow
from wb.page.look import COLOURS, FRONT, GREY, ORDER, line_name

KINDS = {"mixer": COLOURS[0], "ffn": FRONT}
TITLES = {"mixer": "mixers", "ffn": "feed-forwards"}
CROWDED = 16  # with more sub-layers, numbers on bars would overlap


def output_figure(analysis: DepthAnalysis) -> go.Figure:
    """Distance of the output without each sub-layer, and below it the quality without it."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    for kind, colour in KINDS.items():
        rows = _of(analysis, kind)
        if not rows:
            continue
        names, hover = [row.name for row in rows], [_describe(row, analysis) for row in rows]
        distances = [row.output.distance for row in rows]
        bar = go.Bar(x=names, y=distances, name=TITLES[kind], marker_color=colour, hovertext=hover, hoverinfo="text")
        if len(analysis.sublayers) <= CROWDED:
            bar.update(text=[f"{d:.2g}" for d in distances], textposition="outside", cliponaxis=False)
        figure.add_trace(bar, 1, 1)
        dots = go.Scatter(x=names, y=[row.output.quality for row in rows], mode="markers", hovertext=hover)
        dots.update(hoverinfo="text", showlegend=False, marker={"color": colour, "size": 9})
        figure.add_trace(dots, 2, 1)
    figure.add_hline(analysis.whole, row=2, col=1, **line_name(f"{analysis.title} with all sub-layers", GREY))
    figure.update_yaxes(title_text="‖y − ȳ‖, mean", rangemode="tozero", row=1, col=1)
    shares = {"tickvals": [0, 0.5, 1], "tickformat": ".0%", "range": [0, 1.05]}
    scale = shares if analysis.measure == "accuracy" else {"rangemode": "tozero"}
    figure.update_yaxes(title_text=f"{analysis.title} without it", row=2, col=1, **scale)
    return _along(figure, analysis, 2).update_layout(height=560, bargap=0.3)


def change_figure(analysis: DepthAnalysis, mean: Matrix, most: Matrix) -> go.Figure:
    """Relative changes of contributions: a row per skipped sub-layer, a column per later one; mean or maximum by a button."""
    names = [row.name for row in analysis.sublayers]
    text = [
        [
            "" if a is None or m is None else f"{later} without {skipped}<br>mean {a:.3g}, largest {m:.3g}"
            for later, a, m in zip(names, means, mosts, strict=True)
        ]
        for skipped, means, mosts in zip(names, mean, most, strict=True)
    ]
    scale = {"thickness": 10, "outlinewidth": 0}
    grid = [list(row) for row in mean]
    heat = go.Heatmap(x=names, y=names, z=grid, text=text, hoverinfo="text", colorscale=ORDER, colorbar=scale)
    figure = go.Figure(heat.update(hoverongaps=False, xgap=1, ygap=1), {"height": 520})
    buttons = [
        {"label": label, "method": "restyle", "args": [{"z": [[list(row) for row in matrix]]}]}
        for label, matrix in (("mean", mean), ("largest", most))
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02}
    colours = {"bgcolor": "#eef1f5", "bordercolor": GREY, "font": {"color": "#3b4454"}, "yanchor": "bottom"}
    figure.update_layout(updatemenus=[menu | colours], margin_t=50)
    figure.update_xaxes(title_text="later sub-layer", showgrid=False, tickangle=-60)
    return figure.update_yaxes(title={"text": "left out", "standoff": 12}, showgrid=False, autorange="reversed")


def contribution_figure(analysis: DepthAnalysis) -> go.Figure:
    """Norm of each contribution relative to the stream, and its cosine with it, along depth."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06)
    for kind, colour in KINDS.items():
        rows = _of(analysis, kind)
        names = [row.name for row in rows]
        for place, values in enumerate(([row.ratio for row in rows], [row.cosine for row in rows]), start=1):
            line = go.Scatter(x=names, y=values, name=TITLES[kind], mode="lines+markers", showlegend=place == 1)
            line.update(line={"color": colour}, hovertemplate="%{x}<br>%{y:.3g}<extra></extra>")
            if rows:
                figure.add_trace(line, place, 1)
    figure.add_hline(0, row=2, col=1, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_yaxes(title_text="‖c‖ / ‖h‖", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="cos(c, h)", row=2, col=1)
    return _along(figure, analysis, 2).update_layout(height=480)


def lens_figure(analysis: DepthAnalysis) -> go.Figure:
    """Logit lens along depth: distance of the lens from the output, and how far their choices agree."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06)
    after = [row.after for row in analysis.lens]
    k = min(5, analysis.classes)
    nats = analysis.measure == "nats"
    lines = (
        ("KL(y ‖ lens)", [row.kl for row in analysis.lens], COLOURS[4], 1),
        ("first choice as at the end", [row.agreement for row in analysis.lens], COLOURS[0], 2),
        (analysis.title, [row.quality for row in analysis.lens], COLOURS[1], 1 if nats else 2),
        (f"overlap of the likeliest {k}", [row.overlap for row in analysis.lens], COLOURS[2], 2),
    )
    for name, values, colour, place in lines:
        form = ":.3g" if place == 1 else ":.1%"
        line = go.Scatter(x=after, y=values, name=name, mode="lines+markers", line={"color": colour})
        figure.add_trace(line.update(hovertemplate=f"after %{{x}}<br>{name} %{{y{form}}}<extra></extra>"), place, 1)
    figure.update_yaxes(title_text="nats", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.05], row=2, col=1)
    order = {"categoryorder": "array", "categoryarray": after, "tickangle": -60}
    return figure.update_xaxes(**order).update_xaxes(title_text="after", row=2, col=1).update_layout(height=520)


def _of(analysis: DepthAnalysis, kind: str) -> Sequence[SublayerRow]:
    return [row for row in analysis.sublayers if row.kind == kind]


def _describe(row: SublayerRow, analysis: DepthAnalysis) -> str:
    effect = row.output
    return (
        f"<b>{row.name}</b>, {row.operator}<br>without it ‖y − ȳ‖ {effect.distance:.3g}, at most {effect.most:.3g}<br>"
        f"KL {effect.kl:.3g} nats<br>same first choice {100 * effect.agreement:.2f} %<br>"
        f"{_named(analysis)}{analysis.said(effect.quality)}, with it {analysis.said(analysis.whole)}"
    )


def _named(analysis: DepthAnalysis) -> str:
    """The name in front of a value that does not say what it is of."""
    return "accuracy " if analysis.measure == "accuracy" else ""


def _along(figure: go.Figure, analysis: DepthAnalysis, last: int) -> go.Figure:
    """Puts sub-layers in order of execution, whichever trace has them; only the lowest panel gets a title."""
    names = [row.name for row in analysis.sublayers]
    figure.update_xaxes(categoryorder="array", categoryarray=names, tickangle=-60)
    return figure.update_xaxes(title_text="sub-layer", row=last, col=1)
