"""A file of JSON lines to which one is added as soon as it is known, so that going on after an interruption is reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from wb.core.errors import BadArtefact


class Lines:
    """The lines of `path`. The last one may be half of one, where a process ended while it wrote: it counts as not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All lines.

        Raises:
            BadArtefact: one is no JSON object.
        """
        if not self.path.exists():
            return []
        try:
            found = [json.loads(line) for line in self.path.read_bytes()[: self._whole()].splitlines()]
        except ValueError as error:
            raise BadArtefact(
                f"{self.path} is damaged ({error}); delete it, and the same command makes it again"
            ) from error
        if not all(isinstance(line, dict) for line in found):
            raise BadArtefact(
                f"{self.path} has lines that are no objects; delete it, and the same command makes it again"
            )
        return found

    def add(self, line: dict[str, Any]) -> None:
        """Adds a line, which is in the file afterwards; several processes may add some."""
        with (
            FileLock(self.path.with_suffix(".lock")),
            self.path.open("r+b" if self.path.exists() else "wb") as file,
        ):
            file.seek(self._whole())
            file.truncate()
            file.write(json.dumps(line).encode() + b"\n")

    def _whole(self) -> int:
        """The bytes of whole lines."""
        return self.path.read_bytes().rfind(b"\n") + 1
