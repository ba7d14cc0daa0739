"""The work of `wb convert`: options to configuration, run or plan, and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wb.cli.frame import running
from wb.cli.making.staged import work
from wb.compress.convert.begin import OUTPUT, begin, files_of
from wb.compress.convert.config import configured

if TYPE_CHECKING:
    from wb.compress.convert.job import ConvertJob
    from wb.core.commands.plan import Planned


def convert(given: Mapping[str, Any], asked: running.Asked) -> None:
    """Converts, writes model, graph, record and report, and prints what came of it; or says what would be done.

    Raises:
        WbError: the model, the data or the options have a fault.
    """

    def planned(job: ConvertJob) -> list[Planned]:
        from wb.compress.convert.estimate import estimate

        return estimate(job)

    work(configured(given), asked, OUTPUT, files_of, begin, planned)
