"""Where output goes: data to stdout, progress and messages to stderr."""

from __future__ import annotations

import errno
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from wb.cli.frame.text import printable

if TYPE_CHECKING:
    from wb.cli.frame.progress import Work
    from wb.core.measures.readings import Reading
    from wb.core.statistics.verdict import Remark
    from wb.jobs.calls import shown


class Unread(BrokenPipeError):
    """The reader of the output has closed it, as in `wb show m.pt | head -3`; this is no failure."""


class Plain(Console):
    """A console for untrusted text: no markup, no emoji codes, and no control of the terminal."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, *args: Any, **settings: Any) -> Text:
        """As rich's, with unprintable characters replaced first, so that a table measures what it shows."""
        return super().render_str(printable(text), *args, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich's, with unprintable characters replaced."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """After a closed pipe `wb.cli.main` ends quietly if it was stdout; if it was stderr, messages stop and work goes on."""
        if not self.stderr:
            raise Unread(errno.EPIPE, "nobody reads the output")
        self.quiet = True


data = Plain()
messages = Plain(stderr=True)


def progress(*, quiet: bool = False) -> Work:
    """The progress display on stderr: what is being done, how far it is, elapsed and remaining time; none if `quiet`."""
    from wb.cli.frame.progress import Work  # a tenth of what help has to load

    return Work(Plain(stderr=True, quiet=True) if quiet else messages)


def print_json(content: Any) -> None:
    """Prints JSON on stdout: ASCII, and without lone surrogates, which few programs can read."""
    fit = json.loads(printable(json.dumps(content, ensure_ascii=False)))
    data.print(json.dumps(fit, indent=2), soft_wrap=True)


def note(text: str) -> None:
    """Prints a note for the user on stderr."""
    messages.print(Text.assemble(("note:", "bold yellow"), " ", text), soft_wrap=True)


def say(text: str) -> None:
    """Prints a line on stderr."""
    messages.print(text, markup=False, highlight=False, soft_wrap=True)


def written(path: Path) -> None:
    """Prints `wrote …`, the last line of a command."""
    data.print(f"wrote {path}", soft_wrap=True)


def continues(work: Path, out: Path) -> str:
    """How to continue the job whose finished pieces are in `work`."""
    return f"what is done is in {work}; the same command with -o {shlex.quote(str(out))} continues"


def table(found: shown.Table) -> Group:
    """A table that notebooks show too, for a terminal: the first column to the left, what is not fit to print replaced."""
    from rich.box import SIMPLE

    drawn = Table(title=found.title, title_justify="left", box=SIMPLE)
    for number, column in enumerate(found.columns):
        drawn.add_column(column, overflow="fold", justify="right" if number else "left")
    for row in found.rows:
        drawn.add_row(*row)
    return Group(drawn, *(Text(line) for line in found.lines))


def readings_table(readings: Mapping[str, Reading], title: str | None = None) -> Group:
    """A table with one row per reading (value, how it was obtained, repetitions), then devices and notes."""
    from wb.jobs.calls import shown

    found = shown.readings_table(title or "", readings)
    table = Table(title=title, title_justify="left")
    for column in found.columns:
        table.add_column(column, overflow="fold")
    for row in found.rows:
        table.add_row(*row)
    devices = {reading.device for reading in readings.values() if reading.device}
    return Group(table, *(Text(line) for line in (*(f"on {device}" for device in sorted(devices)), *found.lines)))


def row_title(name: str, reading: Reading) -> str:
    """The title of a row of `cell`s: an accuracy's spread is in points, that of a perplexity a share of it."""
    return f"{name}\n± points" if reading.unit == "fraction" else f"{name}\n±"


def cell(reading: Reading) -> str:
    """A quality for a narrow column of a row with a `row_title`: the value, and its spread on a second line."""
    return f"{reading.plain()}\n{reading.spread().removesuffix(' points')}".rstrip()


def remarks(found: Iterable[Remark]) -> None:
    """Prints sentences on a result below its tables on stdout; warnings are bold."""
    for remark in found:
        data.print(remark.text, style="bold" if remark.warn else None, markup=False, highlight=False, soft_wrap=True)
