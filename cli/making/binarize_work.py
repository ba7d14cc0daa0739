"""The work of `wb binarize`: options to configuration, run or plan, and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wb.cli.frame import running
from wb.cli.making.staged import work
from wb.compress.binarize.begin import OUTPUT, begin, configured, files_of

if TYPE_CHECKING:
    from wb.compress.binarize.job import BinarizeJob
    from wb.core.commands.plan import Planned


def binarize(given: Mapping[str, Any], asked: running.Asked) -> None:
    """Binarizes, writes model, graph, record and report, and prints what came of it; or says what would be done.

    Raises:
        WbError: the model, the data or the options have a fault.
    """

    def planned(job: BinarizeJob) -> list[Planned]:
        from wb.compress.binarize.estimate import estimate

        return estimate(job)

    work(configured(given), asked, OUTPUT, files_of, begin, planned)
