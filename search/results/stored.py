"""Reading of the files of a run folder that its page can do without."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from wb.core.architecture import explain
from wb.core.errors import BadArtefact
from wb.core.system.files import read_text

T = TypeVar("T")


def stored(path: Path, kind: TypeAdapter[T], what: str) -> T | None:
    """The content of the JSON at `path`; None if there is none, as in runs of older versions. `what` names it in errors.

    Raises:
        BadArtefact: it is damaged.
    """
    if not path.exists():
        return None
    try:
        return kind.validate_json(read_text(path, what))
    except ValidationError as error:
        raise BadArtefact(f"{path} is damaged ({explain(error)}); delete it, and the page does without") from error
