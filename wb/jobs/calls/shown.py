"""Tables for notebooks and terminals."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from wb.core.measures.readings import Reading

if TYPE_CHECKING:
    from wb.page.page import Column


class Table(NamedTuple):
    """Rows of text under a title, with sentences below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[str] = ()

    def text(self) -> str:
        """The table for a terminal."""
        whole = [list(self.columns), *map(list, self.rows)]
        widths = [max(len(row[i]) for row in whole) for i in range(len(self.columns))]
        aligned = (
            [
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            for row in whole
        )
        return "\n".join([self.title, *("  ".join(row).rstrip() for row in aligned), *self.lines])

    def html(self) -> str:
        """The table for a notebook; all text is escaped."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        below = "".join(f"<p>{html.escape(line)}</p>" for line in self.lines)
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>{body}</table>{below}"


def readings_table(title: str, readings: Mapping[str, Reading], lines: Sequence[str] = ()) -> Table:
    """One row per reading: value, how it was obtained, number of repetitions."""
    rows = [(name, reading.text(), reading.how, str(reading.n)) for name, reading in readings.items()]
    return Table(title, ("metric", "value", "how", "n"), rows, (*noted(readings.items()), *lines))


def noted(readings: Iterable[tuple[str, Reading]]) -> list[str]:
    """The notes of named readings, one line each; readings with the same note share a line."""
    said: dict[str, list[str]] = {}
    for name, reading in readings:
        if reading.note:
            said.setdefault(reading.note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]


def columns_table(title: str, names: Sequence[str], columns: Sequence[Column], lines: Sequence[str] = ()) -> Table:
    """One row per metric, a column for each of the models in `names`."""
    rows = [(column.title, *(reading.text() for reading in column.readings)) for column in columns]
    return Table(title, ("", *names), rows, lines)


class Shown(ABC):
    """Base of everything that shows as a table."""

    @abstractmethod
    def table(self) -> Table:
        """The table."""

    def __str__(self) -> str:
        return self.table().text()

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()
