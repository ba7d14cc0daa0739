"""The report of a binarization: that of all jobs in stages, and the precision of each group."""

from __future__ import annotations

from pathlib import Path

from wb.compress.binarize.record import Binarization
from wb.compress.staged import report
from wb.compress.staged.report import remarks as remarks
from wb.compress.staged.report import result as result
from wb.compress.staged.report import table as table
from wb.core.precision import precisions


def page(record: Binarization, folder: Path, beside: Path) -> str:
    """The page, for files in `folder` and a page in `beside`."""
    networks = (record.architecture, *(stage.architecture for stage in record.stages))
    tables = [precisions(architecture) for architecture in networks]
    columns = ("group", "original", *(stage.name for stage in record.stages))
    rows = [(group, *(table[group] for table in tables)) for group in tables[0]]
    return report.page(record, folder, beside, report.Section("Precision of each group", "", columns, rows))
