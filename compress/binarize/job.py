"""`wb binarize` from start to end: hash attention, low-bit weights, fine-tuning after each, final readings."""

from __future__ import annotations

from collections.abc import Sequence

from wb.compress.binarize.plan import stages_of, step_of
from wb.compress.binarize.record import Binarization
from wb.compress.staged.job import StagedJob
from wb.compress.staged.record import Name
from wb.models.passes.base import Pass


class BinarizeJob(StagedJob[Binarization]):
    """One binarization."""

    record_type = Binarization
    page = "wb.compress.binarize.report:page"

    @property
    def names(self) -> Sequence[Name]:
        """The stages in order."""
        return stages_of(self.record.config)

    def step(self, name: Name) -> Pass:
        """The pass of a stage."""

        def report(block: str, _: object) -> None:
            self.progress(f"{name}, converted {block}", 0, 0)

        return step_of(name, self.record.config, self.model.architecture, self.data, report)
