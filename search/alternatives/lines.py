"""A file of JSON lines to which one is added as soon as it is known, so that going on after an interruption is reading."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from wb.core.errors import BadArtefact
from wb.core.records import Frozen

R = TypeVar("R", bound=Frozen)


class Lines(Generic[R]):
    """The lines of `path`, each a record of `kind`.

    The last one may be half of one, where a process ended while it wrote: it counts as not there.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path, self.kind = path, kind

    def read(self) -> list[R]:
        """All lines.

        Raises:
            BadArtefact: one is no such record.
        """
        if not self.path.exists():
            return []
        try:
            return [
                self.kind.model_validate_json(line) for line in self.path.read_bytes()[: self._whole()].splitlines()
            ]
        except ValidationError as error:
            found = error.errors()[0]
            what = f"{'.'.join(map(str, found['loc'])) or 'a line'}: {found['msg']}"
            raise BadArtefact(
                f"{self.path} is damaged ({what}); delete it, and the same command makes it again"
            ) from error

    def add(self, line: R) -> None:
        """Adds a line, which is in the file afterwards; several processes may add some."""
        with (
            FileLock(self.path.with_suffix(".lock")),
            self.path.open("r+b" if self.path.exists() else "wb") as file,
        ):
            file.seek(self._whole())
            file.truncate()
            file.write(line.model_dump_json().encode() + b"\n")

    def _whole(self) -> int:
        """The bytes of whole lines."""
        return self.path.read_bytes().rfind(b"\n") + 1
