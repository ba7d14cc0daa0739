"""The page of an attention analysis, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from wb.core.system.files import write_text
from wb.jobs.attention.analysis import AttentionAnalysis, Head
from wb.jobs.attention.figures import curve_figure, head_figure, token_figure
from wb.jobs.calls.shown import Table
from wb.page.look import figure_html
from wb.page.page import render

TEMPLATE = Path(__file__).with_name("attention.html.jinja")
COLUMNS = (
    "layer",
    "head",
    "entropy\nat first",
    "entropy\nin the end",
    "largest\nweight",
    "TV at\nfirst",
    "frozen\nfrom",
)


def write_report(
    analysis: AttentionAnalysis,
    model: str,
    data: str,
    path: Path,
    settings: Mapping[str, Mapping[str, object]],
    *,
    force: bool,
) -> Path:
    """Writes the page to `path` and returns it. Raises as `wb.core.system.files.write_text` does."""
    figures: dict[str, Markup] = {}
    if analysis.heads:
        drawn = {"heads": head_figure(analysis), "tokens": token_figure(analysis)}
        if len(analysis.epochs) > 1:
            drawn["entropy"] = curve_figure(analysis, lambda one: one.entropy, "entropy")
            drawn["concentration"] = curve_figure(analysis, lambda one: one.concentration, "largest weight")
            drawn["apart"] = curve_figure(analysis, lambda one: one.apart, "total variation from the end")
            drawn["same"] = curve_figure(analysis, lambda one: one.same, "share of rows with the same first key")
        figures = {name: figure_html(name, figure) for name, figure in drawn.items()}
    content = {"analysis": analysis, "model": model, "data": data, "result": result(analysis), "figures": figures}
    text = render(TEMPLATE, **content, columns=COLUMNS, rows=rows(analysis), settings=settings)
    write_text(path, text, force=force)
    return path


def result(analysis: AttentionAnalysis) -> str:
    """The analysis in one or two sentences."""
    none = "; ".join(f"{name} ({title})" for name, title in analysis.without.items())
    left = f" Without explicit weights: {none}." if none else ""
    if not analysis.heads:
        return f"No mixer of this network has attention weights.{left}"
    ordered = sorted(analysis.heads, key=lambda head: head.moments[-1].entropy)
    first, last = ordered[0], ordered[-1]
    said = (
        f"Most concentrated in the end: {_name(first)} (entropy {first.moments[-1].entropy:.3f}); least: {_name(last)} "
        f"({last.moments[-1].entropy:.3f})."
    )
    frozen = [head for head in analysis.heads if head.frozen is not None and head.frozen < analysis.epochs[-1]]
    if not frozen and len(analysis.epochs) > 1:
        said += f" No head is frozen before epoch {analysis.epochs[-1]}, the last that was kept."
    if frozen:
        early, late = (choose(frozen, key=lambda head: head.frozen or 0) for choose in (min, max))
        said += (
            f" First frozen: {_name(early)}, from epoch {early.frozen} on; last: {_name(late)}, from epoch {late.frozen} of "
            f"{analysis.epochs[-1]} on (total variation from the end at most {analysis.still:g})."
        )
    return said + left


def rows(analysis: AttentionAnalysis) -> list[tuple[str, ...]]:
    """A row for each head."""
    found = []
    for head in analysis.heads:
        first, last = head.moments[0], head.moments[-1]
        moves = head.frozen is None or head.frozen == analysis.epochs[-1]  # in the end it is as it is in the end
        frozen = "-" if moves else f"epoch {head.frozen}"
        values = (first.entropy, last.entropy, last.concentration, first.apart)
        found.append((head.layer, str(head.head), *(f"{value:.3f}" for value in values), frozen))
    return found


def table(analysis: AttentionAnalysis, title: str) -> Table:
    """The heads as a table, with the result below."""
    return Table(title, COLUMNS, rows(analysis), [result(analysis)])


def _name(head: Head) -> str:
    return f"head {head.head} of {head.layer.removesuffix('.mixer')}"
