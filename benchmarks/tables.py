"""How benchmarks print: tables on a terminal or, with `--markdown`, a section of `docs/results.md`.

Tables and verdicts go to stdout, progress goes to stderr, so that `--markdown` prints the section and nothing else. A section
has a heading, the command, the date, the machine and the versions of libraries, then the tables and verdicts.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rich.table
from rich.console import Console
from rich.text import Text

from wb.core.system.provenance import now, versions


@dataclass
class Table:
    """Rows of text. The first column and those named in `left` are aligned to the left, the others to the right."""

    title: str
    columns: Sequence[str]
    left: Sequence[str] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    rules: set[int] = field(default_factory=set)  # rows with a line above them, on a terminal

    def row(self, *cells: str) -> None:
        """Adds a row.

        Raises:
            ValueError: there are not as many cells as columns.
        """
        if len(cells) != len(self.columns):
            raise ValueError(
                f"{len(cells)} cells in a table of {len(self.columns)} columns ({', '.join(self.columns)})"
            )
        self.rows.append(cells)

    def rule(self) -> None:
        """Draws a line above the next row, on a terminal; Markdown has none."""
        self.rules.add(len(self.rows))

    def markdown(self) -> str:
        """The title and the table in Markdown."""
        marks = [":--" if left else "--:" for left in self._aligned()]
        lines = [self.columns, marks, *self.rows]
        return "\n".join([f"**{_flat(self.title)}**", "", *(f"| {' | '.join(map(_flat, line))} |" for line in lines)])

    def rich(self) -> rich.table.Table:
        """The same for a terminal."""
        table = rich.table.Table(title=Text(self.title), title_justify="left")
        for column, left in zip(self.columns, self._aligned(), strict=True):
            table.add_column(Text(column), justify="left" if left else "right", overflow="fold")
        for number, cells in enumerate(self.rows):
            if number in self.rules:
                table.add_section()
            table.add_row(*map(Text, cells))
        return table

    def _aligned(self) -> list[bool]:
        return [number == 0 or column in self.left for number, column in enumerate(self.columns)]


@dataclass(frozen=True)
class Output:
    """The output of a benchmark."""

    markdown: bool

    def table(self, table: Table, *, interim: bool = False) -> None:
        """Prints a table. An `interim` one, which a later one replaces or sums up, is no part of the Markdown."""
        if self.markdown and not interim:
            print(_public(table.markdown()), end="\n\n", flush=True)
        else:
            Console(width=150, stderr=self.markdown).print(table.rich())

    def say(self, text: str) -> None:
        """Prints a sentence that belongs to the results."""
        print(_public(text) + "\n" if self.markdown else text, flush=True)


def told(*words: object) -> None:
    """Prints progress."""
    print(*words, file=sys.stderr, flush=True)


def begin(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Output]:
    """The options of the command line; with `--markdown` the head of the section is printed, too."""
    options = parser.parse_args()
    if options.markdown:
        print(head(Path(sys.argv[0]).stem, sys.argv[1:], _data_of(parser, options), getattr(options, "suite", "")))
    return options, Output(options.markdown)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the script's docstring as it is and knows `--markdown`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print a section of docs/results.md")
    return parser


def head(name: str, arguments: Sequence[str], data: str = "", suite: str = "") -> str:
    """The head of a section: what was run, when, and on what."""
    words = shlex.join([_public(word) for word in arguments if word != "--markdown"])
    libraries = ", ".join(f"{library} {version}" for library, version in versions().items())
    python = f"Python {platform.python_version()}"
    lines = (
        f"## {' '.join(part for part in (name, suite, data) if part)}",
        "",
        f"- command: `{f'python benchmarks/{name}.py {words}'.strip()}`",
        f"- date: {now()[:10]}",
        f"- machine: {machine()}",
        f"- libraries: {python}, {libraries}",
        "",
    )
    return "\n".join(lines)


def machine() -> str:
    """Cores, processor, system, and how busy the machine is now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load average {os.getloadavg()[0]:.1f} at the beginning" if hasattr(os, "getloadavg") else ""
    return f"{cores} cores, {_processor()}, {platform.system()} {platform.machine()}{load}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1].strip() if found else platform.processor() or "unknown processor"


def _data_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The name of the data in the command, if any, because a benchmark has a section for each data set."""
    data = getattr(options, "data", None)
    return "" if data is None or data == parser.get_default("data") else str(re.split("[:/]", data.rstrip("/"))[-1])


def _flat(cell: str) -> str:
    """A cell on one line, without a sign that would end it."""
    return " ".join(cell.split()).replace("|", "\\|")


def _public(text: str) -> str:
    """The text with `PATH/` in place of folders of absolute paths, which are meaningless on other machines."""
    return re.sub(r"(?m)(^|[\s:=*])/(?:[^/\s]+/)+", r"\1PATH/", text)
