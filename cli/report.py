"""`wb report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._kinds import RUN, need
from wb.cli._options import ForceOption


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run folder, finished or not, or the JSON that `wb prune`, `wb fuse`, `wb quantize` or `wb binarize` wrote."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page to write.", show_default="report.html in the run; beside the JSON"),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the report of a run, or of what another command left as JSON: one page that opens anywhere, without a network."""
    from wb.core.errors import BadOption

    if out is not None and out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    kind = need(run, "run", "record", "json", expected=RUN) if run.exists() else None
    if run.suffix == ".json" or kind in ("record", "json"):
        page = out or run.with_suffix(".html")
        _output.written(_page(run, page, force=force or out is None))
        return
    from wb.search.page.report import write_report
    from wb.search.run import Run

    _output.written(write_report(Run(run), out))


def _page(path: Path, page: Path, *, force: bool) -> Path:
    """Writes the page of the record at `path`, whichever command left it."""
    kind = _kind(path)
    if kind == "binarization":
        from wb.compress.binarize import record as binarization
        from wb.compress.binarize.report import write_report as write_binarization

        return write_binarization(binarization.read(path), path, page, force=force)
    if kind == "quantization":
        from wb.compress.quantize import record as quantization
        from wb.compress.quantize.report import write_report as write_quantization

        return write_quantization(quantization.read(path), path, page, force=force)
    if kind == "fusion":
        from wb.fusion.job import record as fusion
        from wb.fusion.job.report import write_report as write_fusion

        return write_fusion(fusion.read(path), path, page, force=force)
    from wb.compress.prune import record as pruning
    from wb.compress.prune.report import write_report as write_pruning

    return write_pruning(pruning.read(path), path, page, force=force)


def _kind(path: Path) -> str | None:
    """What a record says it is; None for one that says nothing, or is none."""
    import json

    from wb.core.files import read_text

    text = read_text(path, "the JSON that `wb prune`, `wb fuse`, `wb quantize` or `wb binarize` wrote")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None
