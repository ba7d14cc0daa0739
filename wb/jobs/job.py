"""The frame of a job: resumable, recorded, with a page; what it makes is its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from wb.core.errors import BadOption, WbError
from wb.core.files import place
from wb.core.progress import Progress
from wb.jobs.page import write_page
from wb.jobs.record import JobRecord, R, Recorder
from wb.jobs.work import RECORD, locked, opened, retire, work_of


class Job(ABC, Recorder[R]):
    """One piece of work beside its main file `out`; calling it does what is not done yet and gives the finished record.

    What is done lies in the folder `work` until the end, so that the same job continues what was interrupted: `make` does
    whatever that folder and the record do not show as done, and its last `note` makes the record a finished one. Then `files`
    and the page go to their places beside `out`. `progress` hears what is being done.
    """

    record_type: ClassVar[type[JobRecord[Any]]]
    page: ClassVar[str]  # "wb.compress.prune.report:page", of (record, folder of its files, folder of the page)

    def __init__(self, record: R, out: Path, progress: Progress, *, force: bool = False) -> None:
        super().__init__(record, work_of(out) / RECORD)
        self.out, self.progress, self.force = out, progress, force

    @abstractmethod
    def make(self) -> None:
        """Does what is not done yet, in `work`."""

    @abstractmethod
    def files(self) -> Mapping[str, Path]:
        """Where each file of `work` goes that is a result, by its name; what matters most last."""

    def obsolete(self) -> Sequence[Path]:
        """Files that a job of before left at the output, and that would be wrong beside the new ones."""
        return ()

    def continues(self, error: BaseException) -> bool:
        """Whether what is done is worth keeping after `error`: not where the job itself refused before much was done."""
        return self.record.begun or not isinstance(error, WbError)

    @property
    def work(self) -> Path:
        """The folder of what is done; gone at the end."""
        return work_of(self.out)

    @property
    def record_path(self) -> Path:
        """The record, beside the output."""
        return self.out.with_suffix(".json")

    def written(self) -> list[Path]:
        """All that is left at the end, what matters most last."""
        return [self.out.with_suffix(".html"), self.record_path, *self.files().values()]

    def __call__(self) -> R:
        """Does the job.

        Raises:
            BadArtefact: weights or scores that are not finite; a graph that does not run.
            BadData: data that do not fit, or that a loss cannot be computed on.
            BadOption: another process is at it, a file is in the way, or options do not fit.
            BudgetMissed: a budget that cannot be reached.
            ExportDiffers: a graph does not compute what its model does.
            StorageFailed: something could not be written; what is done stays.
            TrainingDiverged: the loss is NaN or infinite.
            Unsupported: models or graphs that cannot be treated so.
        """
        torch.set_num_threads(self.record.config.threads)
        abandon = opened(self.work)
        with locked(self.work):
            if self.record.begun and not (self.work / RECORD).exists():
                abandon()
                raise BadOption(
                    f"another process has just finished what was begun in {self.work}; {self.out} is its result. To do it "
                    "once more, say the same again"
                )
            self.note()
            try:
                if not self.record.done:
                    self.make()
            except BaseException as error:
                if not self.continues(error):
                    abandon()
                raise
            self._publish()
        return self.record

    def _publish(self) -> None:
        """Puts files, record and page in their places; the folder goes last, in one step."""
        for name, path in self.files().items():
            place(self.work / name, path, force=self.force)
        for path in self.obsolete() if self.force else ():
            path.unlink(missing_ok=True)
        place(self.work / RECORD, self.record_path, force=self.force)
        page = self.work / "report.html"
        write_page(type(self), self.record, self.record_path, page, beside=self.out.parent, force=True)
        place(page, self.out.with_suffix(".html"), force=self.force)
        retire(self.work)
