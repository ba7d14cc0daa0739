"""The page of a comparison: sentences first, then the plots of layers and weights, then every table."""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from wb.core.system.files import write_text
from wb.jobs.diff.record import Difference
from wb.jobs.diff.words import NOISE_SAYS, likeness, number, over, owner, remarks, shapes, text_or_dash, widths
from wb.page.look import COLOURS, FRONT, figure_html
from wb.page.page import render

TEMPLATE = Path(__file__).with_name("diff.html.jinja")
_NAMED = 40  # places and weights whose names are written below a plot
_OWNERS = {"both": "circle", "a": "triangle-up-open", "b": "triangle-down-open"}


def write(found: Difference, path: Path, *, everything: bool = False, force: bool = False) -> None:
    """Writes the page to `path`.

    Raises:
        BadOption: the file exists and `force` is false.
        StorageFailed: it could not be written.
    """
    write_text(path, page(found, everything=everything), force=force)


def page(found: Difference, *, everything: bool = False) -> str:
    """The page as HTML; it needs no network and no other file. `everything` includes what is equal."""
    return render(
        TEMPLATE,
        found=found,
        remarks=remarks(found),
        fields=[row for row in found.fields if everything or row.differs],
        weights=[row for row in found.weights if everything or row.differs],
        figures=_figures(found),
        noise=NOISE_SAYS,
        text_or_dash=text_or_dash,
        over=over,
        owner=owner,
        likeness=likeness,
        shapes=shapes,
        number=number,
        widths=widths,
    )


def _figures(found: Difference) -> dict[str, Markup]:
    figures = {}
    if found.layers and not found.equal:
        figures["layers"] = figure_html("layers", layers_figure(found))
    if any(row.distance for row in found.weights):
        figures["weights"] = figure_html("weights", weights_figure(found))
    return figures


def layers_figure(found: Difference) -> go.Figure:
    """Distance of the residual streams behind every sub-layer, where the widths agree, and below it their CKA."""
    rows = found.layers
    apart = any(row.distance is not None for row in rows)
    figure = make_subplots(2 if apart else 1, 1, shared_xaxes=True, vertical_spacing=0.07)
    names = [html.escape(row.name) for row in rows]
    symbols = [_OWNERS[row.where] for row in rows]
    panels = [("distance", [row.distance for row in rows], COLOURS[0])] if apart else []
    panels.append(("CKA", [row.cka for row in rows], FRONT))
    for place, (name, values, colour) in enumerate(panels, start=1):
        line = go.Scatter(x=names, y=values, name=name, mode="lines+markers", line={"color": colour}, showlegend=False)
        line.update(marker={"symbol": symbols, "size": 9}, hovertemplate="%{x}<br>" + name + " %{y:.4g}<extra></extra>")
        figure.add_trace(line, place, 1)
    if apart:
        figure.update_yaxes(title_text="‖a − b‖ / ‖a‖", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="CKA", row=len(panels), col=1)
    named = len(rows) <= _NAMED and not found.of_graphs  # whose values have long names
    figure.update_xaxes(categoryorder="array", categoryarray=names, tickangle=-60)
    title = "value, in order" if found.of_graphs else "behind"
    figure.update_xaxes(title_text=title, showticklabels=named, row=len(panels), col=1)  # none between two panels
    return figure.update_layout(height=520 if apart else 360)


def weights_figure(found: Difference) -> go.Figure:
    """The distance of every weight that both have in one shape, in the order of the network."""
    rows = [row for row in found.weights if row.distance is not None]
    names = [html.escape(row.name) for row in rows]
    bar = go.Bar(x=names, y=[row.distance for row in rows], marker_color=COLOURS[0], showlegend=False)
    figure = go.Figure(bar.update(hovertemplate="%{x}<br>distance %{y:.4g}<extra></extra>"))
    figure.update_xaxes(type="category", showticklabels=len(rows) <= _NAMED, tickangle=-60, title_text="weight")
    return figure.update_yaxes(title_text="‖a − b‖ / ‖a‖", rangemode="tozero").update_layout(height=420, bargap=0.25)
