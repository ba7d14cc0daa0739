"""`wb` within the process of a test, and searches that take a moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wb.cli.main import app


@contextmanager
def brief_search() -> Iterator[Mapping[str, int]]:
    """Samplers search their predictions for few generations, and predictors have few trees; gives what there was before."""
    from wb.predictors import ensemble
    from wb.search.sampler import inner

    few = {"wb.search.sampler.inner.GENERATIONS": 3, "wb.predictors.ensemble.TREES": 10}
    before = dict(zip(few, (inner.GENERATIONS, ensemble.TREES), strict=True))
    with patched(few):
        yield before


@contextmanager
def patched(values: Mapping[str, int]) -> Iterator[None]:
    """Constants of modules have these values."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(name, value)
        yield


def wb(*arguments: object) -> Result:
    """What the command says, and how it ends."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Result:
    """What a command says that ends well."""
    result = wb(*arguments)
    assert result.exit_code == 0, result.output
    return result


def files(folder: Path) -> set[str]:
    """All that is in a folder and below, by its name there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
