"""The page of a depth analysis: which sub-layers the output needs, what they add, at which depth the output is settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from wb.compress.depth.analysis import DepthAnalysis
from wb.compress.depth.figures import change_figure, contribution_figure, lens_figure, output_figure
from wb.core.system.files import write_text
from wb.page.look import figure_html
from wb.page.page import render

TEMPLATE = Path(__file__).with_name("depth.html.jinja")


@dataclass(frozen=True)
class About:
    """What the page says about its numbers: the model, the images, and all other settings needed to repeat them."""

    model: str
    data: str
    split: str
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # title -> name -> value


def write_depth_report(analysis: DepthAnalysis, about: About, path: Path, *, force: bool = False) -> Path:
    """Writes the page to `path` and returns it.

    Raises:
        BadOption: the file exists and `force` is false.
        StorageFailed: it cannot be written.
    """
    write_text(path, page(analysis, about), force=force)
    return path


def page(analysis: DepthAnalysis, about: About) -> str:
    """The page as HTML; it needs no network and no other file."""
    return render(TEMPLATE, analysis=analysis, about=about, result=result(analysis), figures=_figures(analysis))


def result(analysis: DepthAnalysis) -> str:
    """The analysis in one or two sentences."""
    if not analysis.sublayers:
        return "This network has no sub-layers: all of its blocks are switched off."
    rows = sorted(analysis.sublayers, key=lambda row: row.output.kl)
    least, most = rows[0], rows[-1]
    left, gone, whole = (analysis.said(value) for value in (least.output.quality, most.output.quality, analysis.whole))
    kept = f"{left} accuracy is left" if analysis.measure == "accuracy" else left
    return (
        f"Without {least.name} the output changes least ({kept}), without {most.name} most ({gone}); with all sub-layers it is "
        f"{whole}."
    )


def _figures(analysis: DepthAnalysis) -> dict[str, Markup]:
    if not analysis.sublayers:
        return {}
    figures = {
        "output": output_figure(analysis),
        "change": change_figure(analysis, analysis.change_mean, analysis.change_most),
        "direct": change_figure(analysis, analysis.direct_mean, analysis.direct_most),
        "contribution": contribution_figure(analysis),
        "lens": lens_figure(analysis),
    }
    return {name: figure_html(name, figure) for name, figure in figures.items()}
