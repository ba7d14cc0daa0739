"""What jobs with a record share: the folder of what is done, the record that is kept in it, and reading one back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, ValidationError

from wb.core.architecture import explain
from wb.core.errors import BadArtefact
from wb.core.files import place, read_text
from wb.jobs.work import retire, work_of


class JobRecord(Protocol):
    """What a job writes down of itself: a frozen pydantic record, with wall seconds by what took them."""

    @property
    def seconds(self) -> Mapping[str, float]: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """As pydantic's."""
        ...

    def write(self, path: Path, *, force: bool = True) -> None:
        """Atomically."""
        ...


R = TypeVar("R", bound=JobRecord)
M = TypeVar("M", bound=BaseModel)


class Recorded(Generic[R]):
    """The part of a job that keeps its record: `out` is the main file that it writes, the others lie beside it."""

    record: R
    out: Path
    force: bool

    @property
    def work(self) -> Path:
        """The folder of what is done; gone at the end."""
        return work_of(self.out)

    @property
    def record_path(self) -> Path:
        """The record, beside the output."""
        return self.out.with_suffix(".json")

    def _open(self) -> Callable[[], None]:
        """Makes the folder of what is done; gives what takes it away again, with the folders that were made for it."""
        made = [folder for folder in (self.out.parent, *self.out.parent.parents) if not folder.exists()]
        self.work.mkdir(parents=True, exist_ok=True)

        def abandon() -> None:
            shutil.rmtree(self.work, ignore_errors=True)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()

        return abandon

    def _note(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)
        self.record.write(self.work / "record.json")

    def _took(self, seconds: Mapping[str, float]) -> None:
        """Adds wall times to the record."""
        total = {**self.record.seconds}
        for what, more in seconds.items():
            total[what] = round(total.get(what, 0.0) + more, 2)
        self.record = self.record.model_copy(update={"seconds": total})

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Adds the wall time of the block to the record."""
        start = time.perf_counter()
        yield
        self._took({what: time.perf_counter() - start})

    def _close(self, write_report: Callable[..., Path]) -> None:
        """Puts record and report in their places, when all else is there; the folder goes last, in one step."""
        place(self.work / "record.json", self.record_path, force=self.force)
        page = self.work / "report.html"
        write_report(self.record, self.record_path, page, beside=self.out.parent, force=True)
        place(page, self.out.with_suffix(".html"), force=self.force)
        retire(self.work)


def read_record(kind: type[M], path: Path, what: str, verb: str) -> M:
    """The record at `path`, of a `what` ("pruning") that `wb` `verb` ("prune") wrote.

    Raises:
        BadArtefact: there is none, or it is damaged.
    """
    text = read_text(path, f"the JSON that `wb {verb}` wrote")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise BadArtefact(f"{path} is damaged or no record of a {what} ({explain(error)}); {verb} again") from error
