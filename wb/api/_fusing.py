"""Fusing trained models into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.commands.option import by_field
from wb.jobs.calls.given import data_of, done, path_of, path_or_none, saying, shown
from wb.jobs.calls.results import Data, Result

if TYPE_CHECKING:
    from wb.fusion.job.record import Fusion
    from wb.jobs.calls.given import Given


def fuse(
    *models: Given,
    method: str | None = None,
    data: str | Data | None = None,
    background: str | None = None,
    to: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[Fusion]:
    """As `wb fuse`; `data="none"` for none. Raises `WbError` for whatever is wrong with models, data or options."""
    from wb.fusion.job import given as taken
    from wb.fusion.job.begin import OUTPUT, begin, files_of
    from wb.fusion.job.config import FuseConfig
    from wb.fusion.job.report import table

    options = by_field(FuseConfig, options)
    paths = [path for path in map(path_of, models) if path is not None]
    given = {**data_of(data, None, options), "method": method, "to": path_or_none(to)}
    config = taken.configured(taken.choose_data(given, paths, background, saying(quiet=quiet)), paths)
    place = OUTPUT.place(path_or_none(out), [*paths, *([Path(to)] if to else [])], files_of, force=force)
    with shown(quiet=quiet) as progress:
        images, files = taken.read(config, paths, progress)
        return done(begin(config, files, images, place, progress, force=force), table)
