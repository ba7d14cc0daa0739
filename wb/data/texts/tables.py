"""Readers of texts with labels in tables: CSV with a header (TSV by its ending), and JSON, one object a line.

One file is split; of two the first is for training and the second for the test; of three the second is for validation. Files
are UTF-8.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from wb.core.errors import BadData, BadOption, printable
from wb.core.nearest import meant
from wb.core.system.files import irregular
from wb.data.dataset import Split
from wb.data.readers.parts import Parts, divided
from wb.data.spec import JSONL, Spec
from wb.data.texts.lengths import LONGEST
from wb.data.texts.split import Texts
from wb.data.texts.vocabulary import BPE, Ragged, Vocabulary, written

TEXTS = ("text", "sentence", "utterance", "query", "question", "content", "review", "title", "document")
LABELS = ("label", "category", "intent", "class", "target", "topic", "sentiment", "y")
ROLES: Mapping[int, tuple[str, ...]] = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}
_MOST_BYTES = 1 << 30
_SHOWN = 8


class _Row(NamedTuple):
    """A row with the number of the line that it ends in, and its cells by column."""

    line: int
    cells: Mapping[str, object]


_NONE_YET = Vocabulary("", 1, 1)  # of texts that are not written yet


class Labelled(NamedTuple):
    """Texts with the names of their labels, what they came from, and notes on what was left out."""

    texts: list[str]
    labels: list[str]
    lines: list[int]
    notes: list[str]


def read(spec: Spec, places: Sequence[Path]) -> Parts:
    """Reads the tables at `places`, with the columns and the tokenizer of `spec.choices`.

    Raises:
        BadOption: too many files, or a length that is none.
        BadArtefact: the tokenizer cannot be read.
        BadData: a file, a column or a label has a fault.
    """
    choices = dict(spec.choices)
    if len(places) not in ROLES:
        raise BadOption(f"data {spec.text()!r} name {len(places)} files; give one, training and test, or all three")
    rows = _json_rows if spec.form == JSONL else _csv_rows
    kinds = _Kinds()
    found = {role: _read(path, rows, choices, kinds) for role, path in zip(ROLES[len(places)], places, strict=True)}
    names = dict(zip(found, (path.name for path in places), strict=True))
    classes = _classes(found["train"].labels)
    known = {name: i for i, name in enumerate(classes)}
    for role, part in found.items():
        _check_labels(part, known, places[list(found).index(role)], names["train"])
    length = length_of(choices, spec)
    splits: dict[str, tuple[str, Split]] = {
        role: (names[role], texts_of(part.texts, [known[label] for label in part.labels], _NONE_YET))
        for role, part in found.items()
    }
    parts = divided(classes, splits, str(places[0]))
    # Only now is it known which texts are trained on: no word of the others is in the vocabulary.
    own = {
        role: cast(Texts, part)
        for role, part in zip(ROLES[3], (parts.train, parts.validation, parts.test), strict=True)
    }
    texts = [part.lines.tolist() for part in own.values()]
    vocabulary, ids = written(texts, choices.get("tokenizer", BPE), length, truncate=spec.truncates)
    train, validation, test = (
        replace(part, written_with=vocabulary, written=rows) for part, rows in zip(own.values(), ids, strict=True)
    )
    notes = [note for part in found.values() for note in part.notes]
    return parts._replace(train=train, validation=validation, test=test, notes=(*notes, *parts.notes))


def texts_of(texts: Sequence[str], labels: Sequence[int], vocabulary: Vocabulary, ids: Ragged | None = None) -> Texts:
    """A split of these; their `ids` are none cut, if they are known already."""
    lines = np.empty(len(texts), object)
    lines[:] = texts
    return Texts(lines, np.array(labels, np.int64), vocabulary, ids)


def length_of(choices: Mapping[str, str], spec: Spec) -> int | None:
    """The number of tokens that a specification gives, if any. Raises `BadOption` where it is none."""
    given = choices.get("length")
    if given is None:
        return None
    if not given.isdecimal() or not 1 <= int(given) <= LONGEST:
        raise BadOption(f"data {spec.text()!r}: length={given} is no number of tokens; give 1 to {LONGEST}")
    return int(given)


def _classes(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes; numbers go by their size."""
    names = set(labels)
    numbers = all(name.isdecimal() and name.isascii() and len(name) < 19 for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names))


def _check_labels(part: Labelled, known: Mapping[str, int], path: Path, train: str) -> None:
    other = next(
        ((label, line) for label, line in zip(part.labels, part.lines, strict=True) if label not in known), None
    )
    if other is not None:
        label, line = other
        raise BadData(
            f"{path} has the label {printable(label)!r} in line {line}, which no row of {train} has"
            f"{meant(label, list(known))}; remove the row, or add training texts of that label"
        )


def _read(path: Path, rows: Callable[[Path], Iterator[_Row]], choices: Mapping[str, str], kinds: _Kinds) -> Labelled:
    found = Labelled([], [], [], [])
    names: tuple[str, str] | None = None
    empty = {"text": 0, "label": 0}
    for row in rows(path):
        names = names or _columns(list(row.cells), choices, path)
        text, label = (_cell(row, name, path) for name in names)
        if text and label:
            kinds.add(_Label(row.cells[names[1]], row.line, path), label)
            found.texts.append(text)
            found.labels.append(label)
            found.lines.append(row.line)
        else:
            empty["label" if text else "text"] += 1
    if not found.texts:
        raise BadData(f"{path} has no row with a text and a label; expected a table with a column of each")
    notes = [f"{count:,} rows of {path.name} have no {what} and are left out" for what, count in empty.items() if count]
    return found._replace(notes=notes)


def _cell(row: _Row, column: str, path: Path) -> str:
    value = row.cells.get(column)
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str | int):
        return str(value).strip()
    raise BadData(
        f"{path} has {printable(str(value), 60)} in line {row.line} under {printable(column)!r}; expected a text, a whole "
        "number, true or false"
    )


class _Label(NamedTuple):
    """A label as a file has it, and where."""

    value: object
    line: int
    path: Path

    @property
    def shown(self) -> str:
        return f"{printable(json.dumps(self.value, ensure_ascii=False), 60)} in line {self.line}"


class _Kinds:
    """Of what kinds labels are, in all files: JSON tells `1`, `"1"` and `true` apart, and classes are told by their names."""

    def __init__(self) -> None:
        self.seen, self.first = dict[str, _Label](), dict[type, _Label]()

    def add(self, label: _Label, name: str) -> None:
        """Raises `BadData` for a label that reads like another one of another kind, and for numbers beside true and false."""
        kind = type(label.value)
        before = self.seen.setdefault(name, label)
        if type(before.value) is not kind:
            raise _mixed(before, label)
        first, other = self.first.setdefault(kind, label), self.first.get({bool: int, int: bool}.get(kind, object))
        if other is not None:
            raise _mixed(other, first)


def _mixed(one: _Label, two: _Label) -> BadData:
    what = f" and {two.shown}" if one.path == two.path else f", and {two.path} has {two.shown}"
    return BadData(
        f"{one.path} has the label {one.shown}{what}, so that it is not clear whether both are one class; write all alike"
    )


def _columns(there: Sequence[str], choices: Mapping[str, str], path: Path) -> tuple[str, str]:
    """The columns of texts and of labels: those asked for, else those that are called so."""
    found = []
    for what, usual in (("text", TEXTS), ("label", LABELS)):
        asked = choices.get(what)
        by_name = {name.strip().lower(): name for name in reversed(there)}
        name = asked if asked is not None else next((by_name[one] for one in usual if one in by_name), None)
        if name is None or name not in there:
            shown = ", ".join(map(printable, there[:_SHOWN])) + (", …" if len(there) > _SHOWN else "")
            lacks = (
                f"no column {printable(asked)!r}{meant(asked, there)}" if asked is not None else f"no column of {what}s"
            )
            raise BadData(f"{path} has {lacks}; it has {shown}; say which with --{what}-column")
        found.append(name)
    if found[0] == found[1]:
        raise BadData(f"{path}: {printable(found[0])!r} cannot be both the texts and their labels; say another column")
    return found[0], found[1]


def _csv_rows(path: Path) -> Iterator[_Row]:
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = next((row for row in reader if row), [])
        if len(set(header)) < len(header):
            raise BadData(f"{path} has two columns of one name in its header; rename one")
        for row in reader:
            if row and len(row) != len(header):
                raise BadData(
                    f"{path} has {len(row)} cells in the row that ends in line {reader.line_num}, and {len(header)} in its "
                    "header; put cells with commas or line breaks in double quotes"
                )
            if row:
                yield _Row(reader.line_num, dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise BadData(
            f"{path} is no table of comma-separated values: {error}, about line {reader.line_num}; put cells with commas, "
            "quotes or line breaks in double quotes"
        ) from error


def _json_rows(path: Path) -> Iterator[_Row]:
    # Not `splitlines`: it also splits at U+2028 and the like, which may stand in JSON as they are.
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadData(f"{path} has no JSON in line {number} ({error}); expected one object a line") from error
        if not isinstance(content, dict):
            raise BadData(f"{path} has no object in line {number}; expected one with a text and a label")
        yield _Row(number, content)


def read_utf8(path: Path, what: str = "a table with texts and labels") -> str:
    """The text in a file, `what` it is for messages. Raises `BadData` where it is no file, too large, or not UTF-8."""
    why = irregular(path)
    if why is not None:
        raise BadData(f"{path} {why}; give the file of {what}")
    if path.stat().st_size > _MOST_BYTES:
        raise BadData(f"{path} has more than {_MOST_BYTES >> 30} GB, and all of it is held in memory; give less")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadData(
            f"{path} is no UTF-8 text in line {line} ({error.reason}); save it as UTF-8, all of it in one encoding"
        ) from error
