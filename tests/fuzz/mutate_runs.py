"""Damage for run folders: one thing in one file, drawn from a seed. Also for scripts that want thousands of them."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

DEEP = "[" * 200_000 + "]" * 200_000
ODD: tuple[Any, ...] = (
    *(None, True, "", "x", "[/]", "[red]", "\ud800", "../..", "inf", [], {}, [[]], {"a": None}, [None] * 3),
    *(-1, 0, 0.5, 1e308, -1e-320, float("nan"), float("inf"), 2**31, 2**70, -(2**63)),
)


def mutate(folder: Path, seed: int) -> str:
    """Damages the run in `folder`; says what it did."""
    rng = random.Random(seed)
    files = {
        "run.json": (in_bytes, in_json, in_json, in_json),
        "front.json": (in_bytes, in_json, in_json, in_json),
        "study.db": (in_bytes, in_bytes, in_rows, in_rows, in_rows, in_rows, in_tables),
    }
    name = rng.choice([name for name in ("run.json", "front.json", "study.db", "study.db") if (folder / name).exists()])
    how: Callable[[Path, random.Random], str] = rng.choice(files[name])
    return f"{name}: {how(folder / name, rng)}"


def in_bytes(path: Path, rng: random.Random) -> str:
    """A file that was cut, flipped, overwritten, or is something else."""
    content = bytearray(path.read_bytes())
    at, length = rng.randrange(len(content)), rng.randrange(1, 200)
    match rng.randrange(7):
        case 0:
            path.write_bytes(content[:at])
            return f"cut at {at}"
        case 1:
            for place in rng.sample(range(len(content)), min(length, len(content))):
                content[place] ^= 1 << rng.randrange(8)
            what = f"{length} flipped bits"
        case 2:
            content[at : at + length] = bytes(length)
            what = f"{length} zeros at {at}"
        case 3:
            content[at:at] = rng.randbytes(length)
            what = f"{length} more bytes at {at}"
        case 4:
            content = bytearray()
            what = "empty"
        case 5:
            content = bytearray(DEEP.encode())
            what = "deep JSON"
        case _:
            path.unlink()
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("CREATE TABLE studies (anything TEXT)")
            return "another database"
    path.write_bytes(content)
    return what


def in_json(path: Path, rng: random.Random) -> str:
    """A value of another type or size, one that is gone, or one too many."""
    text, what = changed(path.read_text(encoding="utf-8"), rng)
    path.write_bytes(text.encode(errors="surrogatepass"))
    return what


def changed(text: str, rng: random.Random) -> tuple[str, str]:
    """The JSON with one change, and what that is."""
    content = json.loads(text)
    places = list(_places(content))
    if not places or rng.random() < 0.03:
        value = rng.choice(ODD)
        return json.dumps(value), f"all is {value!r}"
    holder, key = rng.choice(places)
    match rng.randrange(5):
        case 0:
            del holder[key]
            what = f"{key!r} is gone"
        case 1 if isinstance(holder, dict):
            holder["more"] = rng.choice(ODD)
            what = f"more beside {key!r}"
        case 2:
            holder[key] = "\0deep"
            return json.dumps(content).replace('"\\u0000deep"', DEEP), f"{key!r} is deep"
        case _:
            holder[key] = rng.choice(ODD)
            what = f"{key!r} is {holder[key]!r}"
    return json.dumps(content), what


def in_rows(path: Path, rng: random.Random) -> str:
    """A cell of another type, a changed JSON in one, or a row that is gone."""
    with closing(sqlite3.connect(path)) as db, db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        tables = [name for name in tables if db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]]
        table = rng.choice(tables)
        rows = [row for (row,) in db.execute(f"SELECT rowid FROM {table} ORDER BY rowid")]
        row = rng.choice(rows)
        if rng.random() < 0.15:
            db.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
            return f"no row {row} in {table}"
        column = rng.choice([name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")])
        value = db.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()[0]
        new: object = rng.choice([None, "", "x", -1, 2**62, 1e308, b"\xff\xfe", "[/]", float("inf"), "2020-01-01"])
        if column.endswith("json") and rng.random() < 0.8:
            new, _ = changed(value, rng)
        with suppress(sqlite3.IntegrityError, UnicodeEncodeError):
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
    return f"{table}.{column} of row {row} is {str(new)[:80]!r}"


def in_tables(path: Path, rng: random.Random) -> str:
    """A table that is gone, empty, or has another name for a column."""
    with closing(sqlite3.connect(path)) as db, db:
        table = rng.choice([name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")])
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
        match rng.randrange(3):
            case 0:
                db.execute(f"DROP TABLE {table}")
                return f"no table {table}"
            case 1:
                db.execute(f"DELETE FROM {table}")
                return f"nothing in {table}"
            case _:
                db.execute(f"ALTER TABLE {table} RENAME COLUMN {rng.choice(columns)} TO other")
                return f"another column in {table}"


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    found = [(content, key) for key in keys]
    return found + [place for key in keys for place in _places(content[key])]
