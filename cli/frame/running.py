"""Parts of all commands that run jobs: reading data and model, running, planning, printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wb.cli.frame import output
from wb.core.commands.progress import Progress
from wb.jobs.frame.job import Job
from wb.jobs.frame.record import R
from wb.jobs.frame.work import resumable

if TYPE_CHECKING:
    from wb.cli.frame.progress import Work
    from wb.core.commands.plan import Planned
    from wb.data import Dataset
    from wb.jobs.frame.config import JobConfig
    from wb.models.model import Model


class Asked(NamedTuple):
    """Arguments of every job command besides its configuration: the model file, the output, and how to print."""

    file: Path | None
    out: Path | None
    force: bool
    dry_run: bool
    as_json: bool

    @property
    def files(self) -> list[Path]:
        """The file of the model, if any."""
        return [self.file] if self.file else []

    @property
    def name(self) -> str:
        """The name of the model in records and messages."""
        return str(self.file or "stock model")


def chosen(given: Mapping[str, Any], files: Sequence[Path], background: str | None, **which: bool) -> dict[str, Any]:
    """`given` with the data for the models in `files`, as `wb.jobs.inputs.choose`; says on stderr what was not asked for."""
    from wb.jobs import inputs

    return inputs.chosen(given, files, background, say=output.say, **which)


def telling(work: Work, what: str) -> Progress:
    """A progress callback that shows a job on one line; `what` is its first text."""
    task = work.add_task(what, total=None)

    def progress(what: str, done: int, of: int) -> None:
        work.update(task, description=what, completed=done, total=of or 1)

    return progress


def inputs(config: JobConfig, seed: int, asked: Asked, progress: Progress) -> tuple[Model, Dataset]:
    """Reads the model and the data of a job."""
    from wb.jobs.reading import read_for

    return read_for(config, asked.file, seed, progress, say=output.say)


def run(
    begin: Callable[[Progress], Job[R]],
    tell: Callable[[R], None],
    what: str = "reading the data",
    *,
    as_json: bool,
    how: str | None = None,
) -> R:
    """Does the job that `begin` returns, prints its result with `tell`, and names the files.

    `how` says how it is continued, where that is not by its main file.

    Raises:
        WbError: models, data or options have a fault.
    """
    with output.progress() as work:
        job = begin(telling(work, what))
        with resumable(job.work, how or output.continues(job.work, job.out)):
            record = job()
    if as_json:
        output.print_json(record.model_dump(mode="json"))
        return record
    tell(record)
    for path in job.written():
        output.written(path)
    return record


def plan(
    config: JobConfig,
    seed: int,
    asked: Asked,
    stages: Callable[[Model, Dataset, Progress], list[Planned]],
    files: Sequence[Path],
) -> None:
    """Reads data and model, and prints the plan that `stages` makes for them.

    Raises:
        WbError: as the command does before it begins.
    """
    import torch

    from wb.cli.frame import planning
    from wb.jobs.inputs import Choice

    torch.set_num_threads(config.threads)
    with output.progress() as work:
        progress = telling(work, "reading the data")
        model, data, first = planning.read(asked.file, Choice.of(config), seed, by_index=config.by_index)
        progress("timing a few steps", 0, 0)
        found = [*first, *stages(model, data, progress)]
    planning.tell(found, files, as_json=asked.as_json)
