"""Early exits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.commands.option import by_field
from wb.jobs.calls.given import chosen, done, path_of, path_or_none, saying, several, shown
from wb.jobs.calls.results import Data, Result

if TYPE_CHECKING:
    from wb.compress.exits.record import EarlyExits
    from wb.jobs.calls.given import Given


def exits(
    model: Given | None = None,
    *,
    after: str | Sequence[str] = (),
    beta: float | None = None,
    data: str | Data | None = None,
    background: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[EarlyExits]:
    """As `wb exits`. Raises `WbError` for whatever is wrong with the model, the data or the options."""
    from wb.compress.exits.begin import OUTPUT, begin, files_of
    from wb.compress.exits.config import ExitsConfig, configured
    from wb.compress.exits.given import is_exiting, read
    from wb.compress.exits.report import table

    file, say = path_of(model), saying(quiet=quiet)
    given = chosen(file, data, background, by_field(ExitsConfig, options), say)
    config = configured({**given, "after": several(after), "beta": beta}, exiting=is_exiting(file))
    place = OUTPUT.place(path_or_none(out), [file] if file else [], files_of, force=force)
    with shown(quiet=quiet) as progress:
        original, images = read(config, file, progress, say)
        name = str(file or "stock model")
        return done(begin(config, original, name, images, place, progress, force=force), table)
