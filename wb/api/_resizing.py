"""The same function in fewer parts, or in more: folding and growing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wb.jobs.calls.given import path_of

if TYPE_CHECKING:
    from wb.fusion.grow.verb import Grown
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


def grow(model: Given, to: str | Path, out: str | Path, *, seed: int = 0, force: bool = False) -> Grown:
    """As `wb grow`: deeper and wider, the same function; `to` is the larger architecture, a JSON file or a model file.

    Raises:
        BadArtefact: a file is no model, or no architecture.
        BadOption: a target that is not larger or differs in more than sizes, or a file in the way.
        Unsupported: a width that cannot be grown to without changing the function.
    """
    from wb.fusion.grow.verb import grow_file

    return grow_file(path_of(model) or Path(), Path(to), Path(out), seed=seed, force=force)
