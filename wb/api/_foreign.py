"""Models of other libraries, and for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.jobs.calls.given import path_of
from wb.jobs.calls.results import Model

if TYPE_CHECKING:
    from wb.jobs.calls.given import Given


def export_to(model: Given, folder: str | Path, to: str, *, force: bool = False) -> list[Path]:
    """As `wb export --to`: the model for another library, or as a file of plain PyTorch; returns the files.

    Raises:
        BadOption: no such form, or a file in the way.
        Unsupported: the library's format cannot say the network.
    """
    from wb.jobs.verbs.exporting import export_to as written

    return written(path_of(model) or Path(), to, Path(folder), force=force)


def import_checkpoint(
    source: str | Path,
    out: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    compare: bool = True,
    force: bool = False,
    **options: Any,
) -> Model:
    """As `wb import`: a checkpoint of another library as a model file; options are the fields of `wb.foreign.given.Given`.

    Raises:
        BadArtefact: no checkpoint, or a damaged one, or one that contradicts itself.
        BadOption: an option that is missing or does not fit, or a file in the way.
        Unsupported: a family that is not known.
    """
    from wb.foreign.given import given_of
    from wb.jobs.verbs.importing import import_file

    numbers = {name: tuple(values) for name, values in (("mean", mean), ("std", std)) if values is not None}
    given = given_of(**options, **({"images": numbers} if numbers else {}))
    found = import_file(Path(source), Path(out), given, compare=compare, force=force)
    return Model(Path(out), found.model)
