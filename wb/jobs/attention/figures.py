"""The figures of the attention report, one function each. Names of layers need no escaping."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from wb.jobs.attention.analysis import AttentionAnalysis, Moment
from wb.page.look import MANY, ORDER


def curve_figure(analysis: AttentionAnalysis, value: Callable[[Moment], float], title: str) -> go.Figure:
    """A line for every head over the checkpoints, coloured by layer."""
    layers = list(dict.fromkeys(head.layer for head in analysis.heads))
    figure = go.Figure(layout={"height": 380})
    for head in analysis.heads:
        colour = MANY[layers.index(head.layer) % len(MANY)]
        line = go.Scatter(x=list(analysis.epochs), y=[value(moment) for moment in head.moments], mode="lines+markers")
        line.update(line={"color": colour, "width": 1.5}, marker={"size": 4}, legendgroup=head.layer)
        line.update(name=head.layer, showlegend=head.head == 0)
        figure.add_trace(
            line.update(hovertemplate=f"{head.layer}, head {head.head}: %{{y:.3f}}<extra>epoch %{{x}}</extra>")
        )
    figure.update_xaxes(title_text="epoch")
    return figure.update_yaxes(title_text=title, range=[0, 1.02])


def head_figure(analysis: AttentionAnalysis) -> go.Figure:
    """Entropy of every head at the last checkpoint: layers by heads."""
    layers = list(dict.fromkeys(head.layer for head in analysis.heads))
    most = max(head.head for head in analysis.heads) + 1
    values: list[list[float | None]] = [[None] * most for _ in layers]
    for head in analysis.heads:
        values[layers.index(head.layer)][head.head] = head.moments[-1].entropy
    heat = go.Heatmap(z=values, x=[f"head {k}" for k in range(most)], y=layers, zmin=0, zmax=1, colorscale=ORDER)
    heat.update(colorbar={"title": {"text": "entropy"}}, hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>")
    return go.Figure(heat, layout={"height": 160 + 40 * len(layers)}).update_yaxes(autorange="reversed")


def token_figure(analysis: AttentionAnalysis) -> go.Figure:
    """Entropy by token at the last checkpoint, the mean over heads of a layer."""
    layers = list(dict.fromkeys(head.layer for head in analysis.heads))
    rows = []
    for layer in layers:
        heads = [head.tokens for head in analysis.heads if head.layer == layer]
        rows.append([sum(values) / len(heads) for values in zip(*heads, strict=True)])
    heat = go.Heatmap(z=rows, y=layers, zmin=0, zmax=1, colorscale=ORDER, colorbar={"title": {"text": "entropy"}})
    heat.update(hovertemplate="%{y}, token %{x}: %{z:.3f}<extra></extra>")
    figure = go.Figure(heat, layout={"height": 160 + 40 * len(layers)}).update_yaxes(autorange="reversed")
    return figure.update_xaxes(title_text="token (of a window or block, where a layer has such)")
