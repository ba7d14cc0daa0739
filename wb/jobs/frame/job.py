"""The frame of a job: resumable, recorded, with a page. Subclasses do the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from wb.core.commands.progress import Progress
from wb.core.errors import BadOption, WbError
from wb.core.system.files import clear, place
from wb.jobs.frame.page import write_page
from wb.jobs.frame.record import JobRecord, R, Recorder
from wb.jobs.frame.work import RECORD, locked, opened, retire, work_of


class Job(ABC, Recorder[R]):
    """One piece of work with the main output file `out`; calling it does what is not done yet and returns the finished record.

    Until the end all finished pieces are in the folder `work`, so that the same job continues after an interruption: `make` does
    whatever the folder and the record do not show as done, and its last `note` makes the record a finished one. Then `files`
    and the page are moved to their places beside `out`. `progress` is called with each step and how far it is.
    """

    record_type: ClassVar[type[JobRecord[Any]]]
    page: ClassVar[
        str
    ]  # "wb.compress.prune.report:page", a function of (record, folder of its files, folder of the page)

    def __init__(self, record: R, out: Path, progress: Progress, *, force: bool = False) -> None:
        super().__init__(record, work_of(out) / RECORD)
        self.out, self.progress, self.force = out, progress, force

    @abstractmethod
    def make(self) -> None:
        """Does what is not done yet, in `work`."""

    @abstractmethod
    def files(self) -> Mapping[str, Path]:
        """The results to publish: file name in `work` -> destination; the main file last."""

    def obsolete(self) -> Sequence[Path]:
        """Files of an earlier job at the output that would be wrong beside the new ones."""
        return ()

    def continues(self, error: BaseException) -> bool:
        """Whether to keep the folder after `error`: not if the job itself refused before much was done."""
        return self.record.begun or not isinstance(error, WbError)

    @property
    def work(self) -> Path:
        """The folder of finished pieces; it is removed at the end."""
        return work_of(self.out)

    @property
    def record_path(self) -> Path:
        """The published record, beside the output."""
        return self.out.with_suffix(".json")

    def written(self) -> list[Path]:
        """All files of a finished job, the main file last."""
        return [self.out.with_suffix(".html"), self.record_path, *self.files().values()]

    def __call__(self) -> R:
        """Does the job.

        Raises:
            BadArtefact: weights or scores that are not finite; a graph that does not run.
            BadData: data that do not fit, or a loss that cannot be computed.
            BadOption: another process does this job, a file is in the way, or options do not fit.
            BudgetMissed: a budget that cannot be reached.
            ExportDiffers: a graph does not compute what its model does.
            StorageFailed: something could not be written; finished pieces stay.
            TrainingDiverged: the loss is NaN or infinite.
            Unsupported: models or graphs that this job cannot treat.
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
        """Moves files, record and page to their places, then removes the folder in one step."""
        page = self.out.with_suffix(".html")
        for path in (*self.files().values(), self.record_path, page):
            clear(path)  # an interrupted process may have been at it
        for name, path in self.files().items():
            place(self.work / name, path, force=self.force)
        for path in self.obsolete() if self.force else ():
            path.unlink(missing_ok=True)
        place(self.work / RECORD, self.record_path, force=self.force)
        written = self.work / "report.html"
        write_page(type(self), self.record, self.record_path, written, beside=self.out.parent, force=True)
        place(written, page, force=self.force)
        retire(self.work)
