"""The runs below a folder: how far each is, and what it found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wb.core.errors import BadArtefact, WbError
from wb.core.measures.readings import scaled
from wb.core.system.durations import duration
from wb.jobs.calls.shown import Shown, Table
from wb.search.crew.crew import Crew
from wb.search.results.point import FrontPoint
from wb.search.run import Run, RunRecord
from wb.search.study.study import read_evaluated

RUNS = Path("runs")  # where commands make folders


@dataclass(frozen=True)
class Listed:
    """One run: `state` in a few words, its record and front as far as they can be read, the bytes of its files."""

    folder: Path
    state: str
    size: int
    record: RunRecord | None = None
    points: Sequence[FrontPoint] = ()

    @property
    def best(self) -> FrontPoint | None:
        """The network with the best quality on the validation split."""
        return min(self.points, key=lambda p: _cost(self.record, p), default=None) if self.record else None

    @property
    def age(self) -> float | None:
        """Seconds since the run began."""
        with suppress(ValueError, TypeError):  # a record that was edited
            if self.record is not None:
                return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.record.created)).total_seconds())
        return None

    def content(self) -> dict[str, Any]:
        """As JSON."""
        best, record = self.best, self.record
        return {
            "run": str(self.folder),
            "state": self.state,
            "bytes": self.size,
            "created": None if record is None else record.created,
            "data": None if record is None else record.data.spec,
            "space": None if record is None else record.config.space,
            "preset": None if record is None else record.config.preset,
            "objectives": None if record is None else record.config.objectives,
            "networks": len(self.points),
            "best": None
            if best is None
            else {
                "id": best.id,
                "test": best.test.model_dump(mode="json"),
                "latency": best.values["latency"].model_dump(mode="json"),
            },
        }


@dataclass(frozen=True, repr=False)
class Runs(Shown):
    """The runs below `folder`, the newest first."""

    folder: Path
    listed: tuple[Listed, ...]

    def table(self) -> Table:
        """One row a run."""
        columns = ("run", "state", "data", "space", "best test", "its latency", "age", "size")
        return Table(f"runs in {self.folder}", columns, [_row(one, self.folder) for one in self.listed])


def runs(folder: Path) -> Runs:
    """The runs in `folder` and below it; a folder in a run is none.

    Raises:
        BadArtefact: there is no such folder.
    """
    if not folder.is_dir():
        raise BadArtefact(
            f"there is no folder {folder}; expected one with run folders, as `wb search` makes them in {RUNS}/; name another"
        )
    found = [_listed(path) for path in _folders(folder)]
    found.sort(key=lambda one: (one.record is None, one.record.created if one.record else "", one.folder), reverse=True)
    return Runs(folder, tuple(found))


def _folders(folder: Path) -> Iterator[Path]:
    for home, folders, files in os.walk(folder):  # links are not followed
        if "run.json" in files:
            folders.clear()
            yield Path(home)


def _listed(folder: Path) -> Listed:
    size = sum(_bytes(path) for path in folder.rglob("*"))
    run = Run(folder)
    try:
        record = run.read()
    except WbError:
        return Listed(folder, "damaged: run.json", size)
    try:
        points = run.read_front() if run.front_path.exists() else []
    except WbError:
        return Listed(folder, "damaged: front.json", size, record)
    try:
        return Listed(folder, _state(run, record, points), size, record, points)
    except WbError:
        return Listed(folder, "its study cannot be read", size, record, points)


def _state(run: Run, record: RunRecord, points: Sequence[FrontPoint]) -> str:
    config = record.config
    if points and record.finished == config.wanted:
        return "finished"
    busy = ", at work" if Crew(run.folder).busy() else ""
    if not run.supernet_path.exists():
        return f"supernet{busy}"
    done = len(read_evaluated(run.storage(config), record.study, config.metrics, config.limits))
    return f"{done} of {config.trials} candidates{busy}" if done < config.trials else f"finalists{busy}"


def _row(one: Listed, below: Path) -> tuple[str, ...]:
    name = str(one.folder.relative_to(below)) if one.folder != below else one.folder.name
    size = scaled(one.size, "B")
    record, best, age = one.record, one.best, one.age
    if record is None:
        return (name, one.state, "–", "–", "–", "–", "–", size)
    return (
        name,
        one.state,
        record.data.spec,
        f"{record.config.space} {record.config.preset}",
        "–" if best is None else best.test.plain(),
        "–" if best is None else best.values["latency"].plain(),
        "–" if age is None else duration(age),
        size,
    )


def _cost(record: RunRecord | None, point: FrontPoint) -> float:
    return 0.0 if record is None else record.metric.cost(point.validation)


def _bytes(path: Path) -> int:
    with suppress(OSError):  # it has just gone
        return path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    return 0
