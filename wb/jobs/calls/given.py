"""What the functions of `wb.api` share: models and data in every form that they take, and what is told on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.jobs.calls.results import Data, Model, Result
from wb.jobs.frame.work import resumable

if TYPE_CHECKING:
    from wb.core.commands.progress import Progress
    from wb.data import Dataset
    from wb.jobs.calls.shown import Table
    from wb.jobs.frame.config import JobConfig
    from wb.jobs.frame.job import Job
    from wb.jobs.inputs import Say
    from wb.jobs.verbs.classifier import Classifier
    from wb.models.model import Model as Weights

    Given = str | Path | Model | Result[Any] | Classifier  # a model: a file, or what another function returned


def path_of(model: Given | None) -> Path | None:
    """The file of a model."""
    if model is None or isinstance(model, Path):
        return model
    return Path(model) if isinstance(model, str) else model.path


def path_or_none(path: str | Path | None) -> Path | None:
    """A path from a text."""
    return None if path is None else Path(path)


def several(texts: str | Sequence[str]) -> tuple[str, ...]:
    """One text, or several, as a tuple."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def sized(image_size: int | None, limit: int | None) -> dict[str, Any]:
    """Those of the two that are given, by name."""
    return {name: size for name, size in (("image_size", image_size), ("limit", limit)) if size is not None}


def named(data: str | Data | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with data by name as a configuration has them; data that were read already bring their size and limit."""
    if isinstance(data, Data):
        return {**sized(data.dataset.image_size, data.dataset.limit), **given, "data": data.dataset.spec}
    return {**given, "data": data}


def data_of(data: str | Data | None, background: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """As `named`, with the background for transparent images.

    Raises:
        BadOption: a background that is no colour, or of data that are no folder of images.
    """
    from wb.jobs.inputs import given_data

    found = named(data, given)
    return {**found, "data": given_data(found["data"], background)}


def chosen(
    model: Path | None,
    data: str | Data | None,
    background: str | None,
    given: Mapping[str, Any],
    say: Say,
    **which: bool,
) -> dict[str, Any]:
    """`given` with the data for a model, as `wb.jobs.inputs.choose` chooses them."""
    from wb.jobs import inputs

    return inputs.chosen(named(data, given), [] if model is None else [model], background, say=say, **which)


def read(file: Path | None, config: JobConfig, seed: int, progress: Progress, say: Say) -> tuple[Weights, Dataset]:
    """The model and the data of a job."""
    from wb.jobs.reading import read_for

    return read_for(config, file, seed, progress, say=say)


def done(job: Job[Any], rows: Callable[[Any], Table]) -> Result[Any]:
    """Does the job; an error that leaves something to continue says how."""
    with resumable(job.work, continues(job.work, job.out)):
        record = job()
    return Result(record, job.out, tuple(job.written()), rows)


def continues(work: Path, out: Path) -> str:
    """How to continue from `work`."""
    return f"what is done is in {work}; the same call with out={str(out)!r} continues"


def saying(*, quiet: bool) -> Say:
    """What prints on stderr what a user should know, unless `quiet`."""

    def say(text: str) -> None:
        if not quiet:
            sys.stderr.write(f"{text}\n")

    return say


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """Progress as a bar in a notebook and on a terminal, unless `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn())
    silent = quiet or not (console.is_terminal or console.is_jupyter)  # a file would only get an empty line
    with Progress(*columns, console=console, disable=silent, transient=True) as bars:
        task = bars.add_task("reading", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bars.update(task, description=what, completed=done, total=of or None)

        yield progress
