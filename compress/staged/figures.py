"""The figures of the report of a job in stages, one function each."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import plotly.graph_objects as go

from wb.compress.staged.record import StagedRecord
from wb.core.measures.readings import Reading, scaled
from wb.page.look import BLUE, COLOURS, FRONT, GREY, bars

JOULES = ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def energy_figure(record: StagedRecord[Any]) -> go.Figure:
    """Modelled energy by part of the network, for the original and after each stage."""
    models: list[tuple[str, Mapping[str, float]]] = [("original", record.energy)]
    models += [(stage.name, stage.energy) for stage in record.stages]
    parts = _in_order(dict.fromkeys(part for _, energy in models for part in energy))
    one = "image" if record.architecture.input.usual_tokens is None else "text"
    largest = max((value for _, energy in models for value in energy.values()), default=1.0)
    factor, unit = next(((f, u) for f, u in JOULES if largest >= f), JOULES[-1])
    figure = go.Figure(layout={"height": 400, "bargap": 0.25})
    for (name, energy), colour in zip(models, (GREY, *COLOURS), strict=False):
        values = [energy.get(part, 0.0) for part in parts]
        bar = go.Bar(x=[html.escape(part) for part in parts], y=[value / factor for value in values])
        bar.update(name=html.escape(name), marker_color=colour, customdata=[scaled(value, "pJ") for value in values])
        figure.add_trace(bar.update(hovertemplate=f"%{{x}}: ~%{{customdata}}<extra>{html.escape(name)}</extra>"))
    return figure.update_yaxes(title_text=f"energy of one {one} in {unit}, modelled", rangemode="tozero")


def accuracy_figure(record: StagedRecord[Any]) -> go.Figure:
    """Validation readings with 95 % intervals: the original, and each stage as converted and after fine-tuning."""
    names = [html.escape(stage.name) for stage in record.stages]
    figure, share = go.Figure(layout={"height": 320, "bargap": 0.4}), record.metric.unit == "fraction"
    series: list[tuple[str, list[str], list[Reading], str]] = [
        ("original", ["original"], [record.original[record.quality]], GREY),
        ("as converted", names, [stage.before[record.quality] for stage in record.stages], BLUE),
        ("fine-tuned", names, [stage.after[record.quality] for stage in record.stages], FRONT),
    ]
    for name, x, found, colour in series if record.config.finetune else series[:2]:
        bar = go.Bar(x=x, y=[reading.value for reading in found], name=name, marker_color=colour)
        value = "%{y:.2%}" if share else "%{y:.4g}"
        figure.add_trace(
            bar.update(error_y=bars(found), hovertemplate=f"%{{x}}: {value}<extra>%{{fullData.name}}</extra>")
        )
    scale = {"tickformat": ".0%", "range": [0, 1.02]} if share else {"rangemode": "tozero"}
    return figure.update_yaxes(title_text=f"validation {record.metric.title}", **scale)


def loss_figure(record: StagedRecord[Any]) -> go.Figure:
    """Mean loss of every epoch of fine-tuning, stage after stage."""
    figure = go.Figure(layout={"height": 320})
    start = 0
    for stage, colour in zip(record.stages, COLOURS, strict=False):
        x = [start + epoch.number for epoch in stage.epochs]
        line = go.Scatter(x=x, y=[epoch.loss for epoch in stage.epochs], mode="lines+markers", line={"color": colour})
        figure.add_trace(line.update(name=html.escape(stage.name), hovertemplate="epoch %{x}: %{y:.3f}"))
        start = max(x, default=start)
    figure.update_xaxes(title_text="epoch")
    return figure.update_yaxes(title_text="loss")


def _in_order(parts: Iterable[str]) -> list[str]:
    """Parts with those of one operator side by side."""
    found: dict[str, list[str]] = {}
    for part in parts:
        found.setdefault(part.rpartition(".")[0] or part, []).append(part)
    return [part for group in found.values() for part in group]
