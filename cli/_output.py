"""Where output goes: data to stdout, progress and messages to stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from wb.core.readings import Reading
    from wb.core.verdict import Remark

data = Console()
messages = Console(stderr=True)


def progress() -> Progress:
    """A progress bar on stderr: what is being done, how far, how long it took and will take."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=messages,
    )


def print_json(content: Any) -> None:
    """Plain JSON on stdout, for programs."""
    data.print(json.dumps(content, indent=2), markup=False, highlight=False, soft_wrap=True)


def written(path: Path) -> None:
    """The last line of a command: what was written."""
    data.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def resumable(work: Path, out: Path) -> Iterator[None]:
    """Says where an interrupted job left what is done, and how to go on; not after an error that would only come again."""
    try:
        yield
    except BaseException:
        if work.exists():
            text = f"what is done is in {work}; the same command with -o {out} continues"
            messages.print(text, markup=False, soft_wrap=True)
        raise


def readings_table(readings: Mapping[str, Reading], title: str | None = None) -> Group:
    """One row per reading: value, how it was obtained, how often; below, where, and what is to be known about it."""
    table = Table(title=title, title_justify="left")
    for column in ("metric", "value", "how", "n"):
        table.add_column(column, overflow="fold")
    for name, reading in readings.items():
        table.add_row(name, reading.text(), reading.how, str(reading.n))
    devices = {reading.device for reading in readings.values() if reading.device}
    return Group(
        table, *(Text(line) for line in (*(f"on {device}" for device in sorted(devices)), *notes(readings.items())))
    )


def cell(reading: Reading) -> str:
    """An accuracy for a narrow column of a row that says `± points`: its spread on a line of its own."""
    return f"{reading.plain()}\n{reading.spread().removesuffix(' points')}".rstrip()


def remarks(found: Iterable[Remark]) -> None:
    """Sentences on a result, on stdout below its tables; what warns is bold."""
    for remark in found:
        data.print(remark.text, style="bold" if remark.warn else None, markup=False, highlight=False, soft_wrap=True)


def notes(readings: Iterable[tuple[str, Reading]]) -> list[str]:
    """What is to be known about named readings, a line each; what is said of several is said once, of all of them."""
    said: dict[str, list[str]] = {}
    for name, reading in readings:
        if reading.note:
            said.setdefault(reading.note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]
