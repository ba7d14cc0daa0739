"""The work of `wb binarize`: options to configuration, run or plan, and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wb.cli.frame import running
from wb.cli.making.staged import tell
from wb.compress.binarize.begin import OUTPUT, begin, configured, files_of
from wb.compress.binarize.job import BinarizeJob
from wb.core.commands.progress import Progress

if TYPE_CHECKING:
    from wb.core.commands.plan import Planned
    from wb.data import Dataset
    from wb.models.model import Model


def binarize(given: Mapping[str, Any], asked: running.Asked) -> None:
    """Binarizes, writes model, graph, record and report, and prints what came of it; or says what would be done.

    Raises:
        WbError: the model, the data or the options have a fault.
    """
    config = configured(given)
    out = OUTPUT.place(asked.out, asked.files, files_of, force=asked.force)

    def job(model: Model, data: Dataset, progress: Progress) -> BinarizeJob:
        return begin(config, model, asked.name, data, out, progress, force=asked.force)

    def planned(model: Model, data: Dataset, progress: Progress) -> list[Planned]:
        from wb.compress.binarize.estimate import estimate

        return estimate(job(model, data, progress))

    if asked.dry_run:
        running.plan(config, config.seed, asked, planned, files_of(out))
        return
    running.run(
        lambda progress: job(*running.inputs(config, config.seed, asked, progress), progress),
        tell,
        as_json=asked.as_json,
    )
