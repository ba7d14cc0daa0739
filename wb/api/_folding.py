"""Folding parts of a model into its linear maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wb.jobs.calls.given import path_of

if TYPE_CHECKING:
    from wb.jobs.calls.given import Given
    from wb.jobs.verbs.folding import Folded


def fold_norms(model: Given, out: str | Path, *, force: bool = False) -> Folded:
    """As `wb fold norms`: batch norms, and re-parameterized ones, go into the linear maps behind them; the same function.

    Raises:
        BadArtefact: the file is no model.
        BadOption: there is nothing to fold, or a file is in the way.
    """
    from wb.jobs.verbs.folding import fold_file

    return fold_file(path_of(model) or Path(), Path(out), force=force)
