"""The per-block latency table: what a block costs on a device is timed once and kept in a file.

A network's latency is then estimated as the runtime's overhead per call plus the sum over its blocks. Entries are kept as
multiples of the reference graph and told in milliseconds of the day the table was begun, so that entries of a slow hour
and of a fast one add up. Keys are opaque: `wb.export.timing.blocks` makes them.

Source: the additive table of FBNet (https://arxiv.org/abs/1812.03443, section 3.2) and ProxylessNAS.
Limits: what the runtime fuses across two blocks, and that a block finds its input in the cache, is not in the sum.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_dir

from wb.core.errors import BadOption, StorageFailed
from wb.core.readings import Reading
from wb.export.timing.measure import Latency, measure_latency
from wb.export.timing.reference import overhead_graph
from wb.hardware.device import Device

T = TypeVar("T")
VERSION = 2  # of what is timed: graphs without shape arithmetic since 2
OVERHEAD = "wb/overhead"  # the time of a call that computes nothing
REFERENCE = "wb/reference"  # milliseconds of the reference graph when the table was begun
CREATE = """CREATE TABLE IF NOT EXISTS latency (
    device TEXT NOT NULL, key TEXT NOT NULL, value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
    n INTEGER NOT NULL, at TEXT NOT NULL, note TEXT, PRIMARY KEY (device, key))"""


@dataclass(frozen=True)
class Entry:
    """A stored timing, net of the overhead: in multiples of the reference graph, with its 95 % interval and date."""

    value: float
    low: float
    high: float
    n: int
    at: str
    note: str | None = None

    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


class LatencyTable:
    """The table of one device, in `folder/latency.db` (default: the user's cache folder); several processes may share it.

    A damaged file is renamed and begun anew; `note` then says so.
    """

    def __init__(self, device: Device, folder: Path | None = None) -> None:
        self.device = device
        self.path = (folder or Path(user_cache_dir("wb"))) / "latency.db"
        self.note: str | None = None

    def lookup(self, keys: Iterable[str]) -> dict[str, Entry | None]:
        """What is stored for each key, None where nothing is, or nothing that could have been measured.

        Raises:
            StorageFailed: the file cannot be opened, or stays locked for a minute.
        """
        wanted = list(dict.fromkeys(keys))
        sql = "SELECT value, low, high, n, at, note FROM latency WHERE device = ? AND key = ?"

        def read(db: sqlite3.Connection) -> dict[str, Entry | None]:
            rows = {key: db.execute(sql, (self.device.key, key)).fetchone() for key in wanted}
            return {key: _entry(row) for key, row in rows.items()}

        return self._do(read)

    def check(self) -> None:
        """Finds out whether timings can be kept, before any time is spent on them.

        Raises:
            StorageFailed: the file cannot be opened or written, or stays locked for a minute.
        """
        row = (self.device.key, "wb/check", 0.0, 0.0, 0.0, 0, "", None)

        def write(db: sqlite3.Connection) -> None:  # what is taken back within a transaction is written all the same
            db.execute("INSERT OR REPLACE INTO latency VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM latency WHERE device = ? AND key = ?", row[:2])

        self._do(write)

    def store(self, entries: Mapping[str, Entry], *, keep: bool = False) -> None:
        """Writes `entries`, over older ones of the same key unless `keep`. Raises as `lookup` does."""
        sql = f"INSERT OR {'IGNORE' if keep else 'REPLACE'} INTO latency VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        rows = [(self.device.key, key, e.value, e.low, e.high, e.n, e.at, e.note) for key, e in entries.items()]
        self._do(lambda db: db.executemany(sql, rows))

    def time(
        self,
        graphs: Mapping[str, Path | bytes],
        *,
        precision: float = 0.03,
        cap_s: float | None = None,
        seed: int = 0,
        progress: Callable[[str], None] | None = None,
    ) -> dict[str, Reading]:
        """The milliseconds of each graph, net of the overhead; measures and stores just those that are not in the table.

        Raises:
            BadArtefact, Unsupported: as `wb.export.timing.measure.measure_latency` does.
            StorageFailed: as `lookup` does.
        """
        known = self.lookup(graphs)
        missing = {key: graph for key, graph in graphs.items() if known[key] is None}
        if missing:
            timed = measure_latency(
                {**missing, OVERHEAD: overhead_graph()},
                self.device,
                precision=precision,
                cap_s=cap_s,
                seed=seed,
                progress=progress,
            )
            self._keep(timed)
        entries, scale = self._entries(graphs)
        return {key: self._reading(entry, scale) for key, entry in entries.items()}

    def estimate(self, keys: Sequence[str]) -> Reading:
        """Overhead plus the entries of all `keys` in ms, each as often as it comes, as a prediction.

        The interval takes errors of different entries as independent, and of the same one as the same.
        Raises:
            BadOption: a key that is not in the table.
            StorageFailed: as `lookup` does.
        """
        entries, scale = self._entries([OVERHEAD, *keys])
        counts = Counter([OVERHEAD, *keys])
        value = sum(count * entries[key].value for key, count in counts.items())
        half = math.sqrt(sum((count * entries[key].half()) ** 2 for key, count in counts.items()))
        return Reading(
            value=value * scale,
            unit="ms",
            how="predicted",
            interval=(max(0.0, value - half) * scale, (value + half) * scale),
            n=min(entry.n for entry in entries.values()),
            device=self.device.text,
            note=f"the sum of {len(keys)} timings; their interaction is not in the interval",
        )

    def _keep(self, timed: Mapping[str, Latency]) -> None:
        """Stores what was measured, net of the overhead measured with it."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        overhead = _gross(timed[OVERHEAD], now)
        gross = {key: _gross(latency, now) for key, latency in timed.items() if key != OVERHEAD}
        pace = timed[OVERHEAD].reading.value / timed[OVERHEAD].ratio.value
        self.store({REFERENCE: Entry(pace, pace, pace, 1, now)}, keep=True)
        self.store({OVERHEAD: overhead} | {key: _net(entry, overhead) for key, entry in gross.items()})

    def _entries(self, keys: Iterable[str]) -> tuple[dict[str, Entry], float]:
        """The stored entries, and the milliseconds of the reference."""
        found = self.lookup([REFERENCE, *keys])
        missing = [key for key, entry in found.items() if entry is None]
        if missing:
            raise BadOption(
                f"{len(missing)} of {len(found)} timings are not in {self.path} for {self.device.text}, the first is"
                f" {missing[0]!r}; time them first"
            )
        entries = {key: entry for key, entry in found.items() if entry is not None}
        scale = entries[REFERENCE].value
        return {key: entry for key, entry in entries.items() if key != REFERENCE}, scale

    def _reading(self, entry: Entry, scale: float) -> Reading:
        return Reading(
            value=entry.value * scale,
            unit="ms",
            how="measured",
            interval=(entry.low * scale, entry.high * scale),
            n=entry.n,
            device=self.device.text,
            note=entry.note,
        )

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` in one transaction; a damaged file is put aside once."""
        for last in (False, True):
            try:
                with closing(self._open()) as db, db:
                    return work(db)
            except sqlite3.OperationalError as error:
                raise StorageFailed(f"could not use {self.path}: {error}; check its folder, or delete it") from error
            except sqlite3.DatabaseError as error:
                if last:
                    raise StorageFailed(f"{self.path} is damaged and could not be replaced: {error}") from error
                self._put_aside(str(error))
        raise AssertionError("unreachable")  # both rounds return or raise

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"could not make {self.path.parent}: {error.strerror or error}") from error
        db = sqlite3.connect(self.path, timeout=60)
        try:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it has version {version}, not {VERSION}")
            if version == 0:
                with suppress(sqlite3.OperationalError):  # another process is just switching the mode
                    db.execute("PRAGMA journal_mode = WAL")
                with db:
                    db.execute(CREATE)
                    db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _put_aside(self, why: str) -> None:
        """Renames the file, unless another process has replaced it meanwhile."""
        with suppress(sqlite3.Error, StorageFailed), closing(self._open()) as db:
            if db.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                return
        aside = self.path.with_name(f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        with suppress(FileNotFoundError):
            self.path.replace(aside)
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.note = f"{self.path} was damaged ({why}); it is now {aside.name} and a new table was begun"


def _entry(row: Sequence[Any] | None) -> Entry | None:
    """SQLite keeps any type in any column: what is no timing is measured again."""
    if row is None or not all(isinstance(value, float) and math.isfinite(value) for value in row[:3]):
        return None
    texts = isinstance(row[4], str) and isinstance(row[5], str | None)
    return Entry(*row) if texts and isinstance(row[3], int) else None


def _gross(latency: Latency, at: str) -> Entry:
    """The ratio as measured."""
    low, high = latency.ratio.interval or (latency.ratio.value, latency.ratio.value)
    return Entry(latency.ratio.value, low, high, latency.ratio.n, at, latency.ratio.note)


def _net(gross: Entry, overhead: Entry) -> Entry:
    """`gross` less `overhead`, never below zero; their errors add in quadrature."""
    value, half = gross.value - overhead.value, math.hypot(gross.half(), overhead.half())
    return Entry(max(0.0, value), max(0.0, value - half), max(0.0, value + half), gross.n, gross.at, gross.note)
