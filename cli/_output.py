"""Where output goes: data to stdout, progress and messages to stderr."""

from __future__ import annotations

import errno
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from wb.cli._progress import Work
from wb.cli._text import printable

if TYPE_CHECKING:
    from wb.core.readings import Reading
    from wb.core.statistics.verdict import Remark


class Unread(BrokenPipeError):
    """Nobody reads the output, as after `wb show m.pt | head -3`: no failure."""


class Plain(Console):
    """A console for text that comes from files: no markup, no emoji codes, and nothing that steers the terminal."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, *args: Any, **settings: Any) -> Text:
        """As rich's, of what is fit to be shown, so that a table knows how wide it is."""
        return super().render_str(printable(text), *args, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich's, with what is unfit to be shown replaced."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Nobody reads on: `wb.cli.main` ends quietly; of what is only told, nothing more is said, and the work goes on."""
        if not self.stderr:
            raise Unread(errno.EPIPE, "nobody reads the output")
        self.quiet = True


data = Plain()
messages = Plain(stderr=True)


def progress() -> Work:
    """What is being done, how far it is, how long that took and will take: on stderr."""
    return Work(messages)


def print_json(content: Any) -> None:
    """Plain JSON on stdout, for programs: ASCII, and without halves of surrogate pairs, which few of them can read."""
    fit = json.loads(printable(json.dumps(content, ensure_ascii=False)))
    data.print(json.dumps(fit, indent=2), soft_wrap=True)


def note(text: str) -> None:
    """What a user should know of what was done, on stderr."""
    messages.print(Text.assemble(("note:", "bold yellow"), " ", text), soft_wrap=True)


def say(text: str) -> None:
    """A line on stderr."""
    messages.print(text, markup=False, highlight=False, soft_wrap=True)


def written(path: Path) -> None:
    """The last line of a command: what was written."""
    data.print(f"wrote {path}", soft_wrap=True)


@contextmanager
def resumable(made: Path, how: str) -> Iterator[None]:
    """Where the block ends before its time and something was `made`, the last words say `how` to go on."""
    try:
        yield
    except BaseException as error:
        if made.exists():
            error.add_note(how)
        raise


def continues(work: Path, out: Path) -> str:
    """How a job goes on that keeps what is done in `work`."""
    return f"what is done is in {work}; the same command with -o {shlex.quote(str(out))} continues"


def readings_table(readings: Mapping[str, Reading], title: str | None = None) -> Group:
    """One row per reading: value, how it was obtained, how often; below, where, and what is to be known about it."""
    from wb.jobs.shown import noted

    table = Table(title=title, title_justify="left")
    for column in ("metric", "value", "how", "n"):
        table.add_column(column, overflow="fold")
    for name, reading in readings.items():
        table.add_row(name, reading.text(), reading.how, str(reading.n))
    devices = {reading.device for reading in readings.values() if reading.device}
    return Group(
        table, *(Text(line) for line in (*(f"on {device}" for device in sorted(devices)), *noted(readings.items())))
    )


def cell(reading: Reading) -> str:
    """An accuracy for a narrow column of a row that says `± points`: its spread on a line of its own."""
    return f"{reading.plain()}\n{reading.spread().removesuffix(' points')}".rstrip()


def remarks(found: Iterable[Remark]) -> None:
    """Sentences on a result, on stdout below its tables; what warns is bold."""
    for remark in found:
        data.print(remark.text, style="bold" if remark.warn else None, markup=False, highlight=False, soft_wrap=True)
