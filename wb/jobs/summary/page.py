"""The page of a data set: its splits and classes, what a user should know, and samples of every class."""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go

from wb.core.errors import BadOption
from wb.core.system.files import write_text
from wb.data.dataset import Dataset
from wb.data.summary import Summary
from wb.jobs.frame.output import check_free
from wb.jobs.summary.pictures import CLASSES, sampled, shown_as, write_sheet
from wb.jobs.summary.words import TEXTS, by_channel, by_size, remarks, shape
from wb.page.look import COLOURS, figure_html
from wb.page.page import render

TEMPLATE = Path(__file__).with_name("summary.html.jinja")
ENDINGS = (".html", ".png")
_BARS = 60  # classes that are drawn; of more, a bar could not be told from the next


def check_output(path: Path, *, force: bool) -> None:
    """Raises `BadOption` unless `path` is a name for a page or a picture, and free."""
    if path.suffix not in ENDINGS:
        raise BadOption(f"{path.name} is no name for a page or a picture; end it in {' or '.join(ENDINGS)}")
    check_free(path, force=force)


def write(summary: Summary, data: Dataset, path: Path, *, force: bool = False) -> None:
    """Writes the page of `data` to `path`, or only the samples if it ends in `.png`.

    Raises:
        BadOption: another ending, or the file exists and `force` is false.
        StorageFailed: it could not be written.
    """
    check_output(path, force=force)
    if path.suffix == ".png" and summary.noun == TEXTS:
        raise BadOption(
            f"{path.name} would be a picture, and the data are texts; end it in .html, for a page of samples"
        )
    if path.suffix == ".png":
        write_sheet(data, [label for label, _ in by_size(summary)], path, force=force)
    else:
        write_text(path, page(summary, data), force=force)


def page(summary: Summary, data: Dataset) -> str:
    """The page as HTML; it needs no network and no other file."""
    shown = by_size(summary)[:CLASSES]
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    samples = [
        (name, summary.splits[0].counts[label], [shown_as(data.train, i, name) for i in sampled(data.train, label)])
        for label, name in shown
    ]
    disputed = [
        (one, shown_as(splits[one.split], one.index, f"image {one.index} of {one.split}")) for one in summary.disputed
    ]
    return render(
        TEMPLATE,
        summary=summary,
        remarks=remarks(summary),
        samples=samples,
        hidden=len(summary.classes) - len(shown),
        disputed=disputed,
        by_channel=by_channel,
        shape=shape(summary),
        ends=(shown[0][1], by_size(summary)[-1][1]),
        figure=figure_html("classes", classes_figure(summary)) if len(summary.classes) <= _BARS else None,
    )


def classes_figure(summary: Summary) -> go.Figure:
    """The images of each class, a bar for each split; the largest class in training first."""
    order = by_size(summary)
    names = [html.escape(name) for _, name in order]
    figure = go.Figure()
    for split, colour in zip(summary.splits, COLOURS, strict=False):
        counts = [split.counts[label] for label, _ in order]
        bar = go.Bar(x=names, y=counts, name=split.name, marker_color=colour)
        figure.add_trace(
            bar.update(hovertemplate=f"%{{x}}<br>%{{y:,}} {summary.noun}<extra>" + split.name + "</extra>")
        )
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    return figure.update_yaxes(title_text=summary.noun).update_layout(height=340, barmode="stack", bargap=0.3)
