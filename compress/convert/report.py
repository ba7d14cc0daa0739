"""The report of a conversion: that of all jobs in stages, and what each block has now."""

from __future__ import annotations

from pathlib import Path

from wb.compress.convert.record import Conversion
from wb.compress.staged import report
from wb.compress.staged.report import remarks as remarks
from wb.compress.staged.report import table as table
from wb.core.architecture import Architecture, Block

MISSED = (
    "A new mixer was taught by itself to give what the old one gave. What it missed is the mean square of the difference on "
    "images that it was not taught on, as a share of the variance: measured, as it began and when it was taught, before "
    "fine-tuning."
)


def page(record: Conversion, folder: Path, beside: Path) -> str:
    """The page, for files in `folder` and a page in `beside`."""
    taught = {layer.slot.removesuffix(".mixer"): layer for layer in record.layers}
    last = record.stages[-1].architecture
    columns = ["block", "mixer", "norm", *(["now", "missed at first", "missed when taught"] if taught else ["now"])]
    rows = []
    for (name, _, old), (_, _, new) in zip(record.architecture.blocks(), last.blocks(), strict=True):
        if not old.off:
            missed = [f"{taught[name].begun:.3g}", f"{taught[name].missed:.3g}"] if name in taught else ["", ""]
            now = ", ".join(_said(last, new)) if _said(last, new) != _said(record.architecture, old) else "the same"
            rows.append([name, *_said(record.architecture, old), now, *(missed if taught else [])])
    section = report.Section("Blocks", MISSED if taught else "", columns, rows)
    return report.page(record, folder, beside, section)


def _said(architecture: Architecture, block: Block) -> list[str]:
    """The mixer of a block and its norm, in words."""
    norm = block.norm or architecture.norm
    return ["none" if block.mixer is None else block.mixer.title, norm.title]
