"""What a search leaves that ended before it had written `run.json`: locks, and a study without a trial. It is no run yet."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from wb.core.files import scratch
from wb.search.study.workers import FOLDER, Crew

STUDY = "search"  # the name of a run's study in its own `study.db`
FILES = tuple(f"study.db{end}" for end in ("", "-wal", "-shm", "-journal"))


def is_half_made(folder: Path) -> bool:
    """Whether `folder` has nothing but what such a search left, and nobody is at work there. Writes nothing into it."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".run.json.")}  # not renamed yet
    return names <= {FOLDER, *FILES} and not Crew(folder).busy() and not (names & {*FILES} and _has_trials(folder))


def discard_study(folder: Path) -> None:
    """Deletes the half-made `study.db` in `folder`; one that anything relies on stays."""
    found = [folder / name for name in FILES if (folder / name).exists()]
    if found and not (folder / "run.json").exists() and not _has_trials(folder):
        for path in found:
            path.unlink(missing_ok=True)


def _has_trials(folder: Path) -> bool:
    """Whether `study.db` may hold what somebody needs: trials, or the study of another. A copy is read.

    SQLite rolls back what a killed process had begun to write, for which it has to write; so it is given a copy.
    """
    with scratch() as place:
        for name in FILES:
            if (folder / name).exists() and not name.endswith("-shm"):  # an index of the log, which SQLite makes anew
                shutil.copyfile(folder / name, place / name)
        try:
            with closing(sqlite3.connect(place / FILES[0])) as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                trials = "trials" in tables and db.execute("SELECT 1 FROM trials").fetchone() is not None
                others = (
                    "studies" in tables
                    and db.execute("SELECT 1 FROM studies WHERE study_name != ?", (STUDY,)).fetchone()
                )
        except sqlite3.Error:  # no database: nothing that a search left
            return True
    return trials or bool(others)
