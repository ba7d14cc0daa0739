"""The work of `wb fuse`: parsing options, run, plan, check, and output."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wb.cli.frame import output, planning, running
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.system.files import scratch
from wb.data import load
from wb.fusion.job.begin import OUTPUT, begin, files_of
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.given import give_back, read
from wb.fusion.job.job import FuseJob
from wb.fusion.job.preview import preview
from wb.fusion.job.record import Fusion
from wb.models.model import save
from wb.training.estimate import data_stage

if TYPE_CHECKING:
    from rich.table import Table

    from wb.core.commands.plan import Planned
    from wb.data import Dataset
    from wb.fusion.job.begin import Files
    from wb.fusion.job.preview import Preview

UNTUNED = "nothing was measured; the fused model is expected to need fine-tuning: give data, and --finetune"


def run(
    config: FuseConfig, models: Sequence[Path], to: Path | None, out: Path | None, *, force: bool, as_json: bool
) -> None:
    """Fuses, writes model, graph, record and report, and prints the result.

    Raises:
        WbError: the models, the data or the options have a fault.
    """
    place = OUTPUT.place(out, [*models, *([to] if to else [])], files_of, force=force)
    if config.data is None:
        give_back()

    def job(progress: Progress) -> FuseJob:
        data, files = read(config, models, progress)
        return begin(config, files, data, place, progress, force=force)

    def tell(record: Fusion) -> None:
        _warn(record.notes)
        _tell(record)

    record = running.run(job, tell, "reading the models", as_json=as_json)
    if as_json:
        _warn(record.notes)


def plan(
    config: FuseConfig, models: Sequence[Path], to: Path | None, out: Path | None, *, force: bool, as_json: bool
) -> None:
    """Prints what `run` would read, match, do and write, and about how long that takes.

    Raises:
        WbError: as `run` does before it begins.
    """
    from wb.fusion.job.estimate import estimate

    out = OUTPUT.place(out, [*models, *([to] if to else [])], files_of, force=force)
    with output.progress() as work, scratch() as folder:
        progress = running.telling(work, "reading the models")
        data, files, stages = _planned(config, models, folder, progress)
        found = preview(config, files, data, progress)
        progress("timing a few steps", 0, 0)
        stages += estimate(begin(config, files, data, out, progress, force=force))
    _warn(found.notes)
    if as_json:
        content = {"stages": [stage._asdict() for stage in stages], "seconds": sum(stage.seconds for stage in stages)}
        output.print_json({**found.as_json(), **content, "files": list(map(str, files_of(out)))})
        return
    _show(found)
    planning.tell(stages, files_of(out), as_json=False)


def check(config: FuseConfig, models: Sequence[Path], *, as_json: bool) -> None:
    """Prints whether and how the models can be fused.

    Raises:
        WbError: they cannot.
    """
    if not models:
        raise BadOption("--check looks at files; give the models to be fused")
    with output.progress() as work:
        progress = running.telling(work, "reading the models")
        data, files = read(config, models, progress)
        found = preview(config, files, data, progress)
    _warn(found.notes)
    if as_json:
        output.print_json(found.as_json())
    else:
        _show(found)


def _show(found: Preview) -> None:
    """Prints a preview: axes, matched blocks, and further lines."""
    output.data.print(_table("axes", *found.sizes()))
    if found.match():
        output.data.print(_table("blocks", *found.match()))
    for line in found.lines():
        output.data.print(line, markup=False, highlight=False, soft_wrap=True)


def _planned(
    config: FuseConfig, models: Sequence[Path], folder: Path, progress: Progress
) -> tuple[Dataset | None, Files, list[Planned]]:
    """As `read`, with the stages of that; stock models that are not in the cache are written to `folder` untrained."""
    if models or config.data is None:
        start = time.perf_counter()
        data, files = read(config, models, progress)
        return data, files, [data_stage(data, time.perf_counter() - start)] if data is not None else []
    start = time.perf_counter()
    data = load(config.data, image_size=config.image_size, limit=config.limit)
    stages = [data_stage(data, time.perf_counter() - start)]
    files = []
    for seed in (config.settings.seed, config.settings.seed + 1):
        model, trained = planning.model_of(None, data, seed)
        stages += trained
        files.append((f"stock model, seed {seed}", folder / f"{seed}.safetensors"))
        save(model, files[-1][1])
    return data, files, stages


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        output.note(note)


def _tell(record: Fusion) -> None:
    from wb.fusion.job.tables import rows
    from wb.fusion.job.verdict import remarks

    columns, table = rows(record)
    output.data.print(_table("readings", ["", *columns], table))
    if record.ensemble:
        output.data.print("ensemble: the models' answers averaged, at the cost of running all of them")
    output.remarks(remarks(record))
    if record.config.data is None:
        output.messages.print(UNTUNED, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
