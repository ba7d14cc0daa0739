"""Half-made run folders: a search that ended before it wrote `run.json` leaves locks and a study without trials."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from wb.core.system.files import scratch
from wb.search.crew.crew import FOLDER, Crew

START = "start.safetensors"  # the model whose weights the supernet starts from
STUDY = "search"  # the name of a run's study in its own `study.db`
FILES = tuple(f"study.db{end}" for end in ("", "-wal", "-shm", "-journal"))


def is_half_made(folder: Path) -> bool:
    """Whether `folder` is a half-made run: nothing but locks and an empty study, and no process at work. Writes nothing."""
    # `.run.json.…` and the like are temporary files that were never completed.
    names = {path.name for path in folder.iterdir() if not path.name.startswith((".run.json.", f".{START}."))}
    return (
        names <= {FOLDER, START, *FILES} and not Crew(folder).busy() and not (names & {*FILES} and _has_trials(folder))
    )


def discard_study(folder: Path) -> None:
    """Deletes the half-made `study.db` in `folder`; a study with trials, or of a run, stays."""
    found = [folder / name for name in FILES if (folder / name).exists()]
    if found and not (folder / "run.json").exists() and not _has_trials(folder):
        for path in found:
            path.unlink(missing_ok=True)


def _has_trials(folder: Path) -> bool:
    """Whether `study.db` may hold something that somebody needs: trials, another study, or no study at all.

    SQLite rolls back the unfinished transaction of a killed process, and writes for that; so a copy is read.
    """
    with scratch() as place:
        for name in FILES:
            if (folder / name).exists() and not name.endswith("-shm"):  # index of the log, which SQLite rebuilds
                shutil.copyfile(folder / name, place / name)
        try:
            with closing(sqlite3.connect(place / FILES[0])) as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                trials = "trials" in tables and db.execute("SELECT 1 FROM trials").fetchone() is not None
                others = (
                    "studies" in tables
                    and db.execute("SELECT 1 FROM studies WHERE study_name != ?", (STUDY,)).fetchone()
                )
        except sqlite3.Error:  # not a database, so not left by a search
            return True
    return trials or bool(others)
