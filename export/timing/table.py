"""The latency table: the latency of each block on a device is measured once and kept in a file.

A network's latency is then estimated as the runtime's overhead per call plus the sum over its blocks. Entries are stored as
multiples of the reference graph, so that entries measured in a slow hour and in a fast one add up. They are reported in
milliseconds at the reference's pace when the table was begun. Keys are opaque strings made by `wb.export.timing.blocks`.

The overhead of ONNX Runtime is the latency of a graph that computes nothing. Other runtimes prepare inputs and outputs of graphs
that compute something, which a table of blocks would count once a block: there it is twice the latency of a small transformer
of one layer less that of one with two.

Source: the additive table of FBNet (https://arxiv.org/abs/1812.03443, section 3.2) and ProxylessNAS.
Limits: the sum ignores fusion across two blocks by the runtime, and that a block finds its input in the cache.
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
from wb.core.measures.readings import Reading
from wb.export.timing.measure import Latency, measure_latency
from wb.export.timing.reference import overhead_graph, transformer_graph
from wb.hardware.device import Device
from wb.hardware.runtimes.known import OURS

T = TypeVar("T")
# Of the timed graphs and their keys: since 3 architectures of format 2, since 4 filters that carry the stream.
VERSION = 4
OVERHEAD = "wb/overhead"  # key of the overhead: the latency of a call that computes nothing
TWICE = "wb/overhead/twice"  # what computes the same twice, where the overhead is found by extrapolation; is not stored
SMALL = (16, 32)  # tokens and channels of that
REFERENCE = "wb/reference"  # key of the reference graph's milliseconds when the table was begun
CREATE = """CREATE TABLE IF NOT EXISTS latency (
    device TEXT NOT NULL, key TEXT NOT NULL, value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
    n INTEGER NOT NULL, at TEXT NOT NULL, note TEXT, PRIMARY KEY (device, key))"""


@dataclass(frozen=True)
class Entry:
    """A stored latency without the overhead, in multiples of the reference graph, with its 95 % interval and date."""

    value: float
    low: float
    high: float
    n: int
    at: str
    note: str | None = None

    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


class LatencyTable:
    """The latency table of one device, in `folder/latency.db` (default: the user's cache folder).

    Several processes may share the file. A damaged file is renamed and a new one is begun; `note` then says so.
    """

    def __init__(self, device: Device, folder: Path | None = None) -> None:
        self.device = device
        self.path = (folder or Path(user_cache_dir("wb"))) / "latency.db"
        self.note: str | None = None

    @property
    def _whose(self) -> str:
        """The device in the file; of other runtimes than ours, entries without a 2 are net of what computes nothing."""
        return self.device.key if self.device.runtime == OURS else f"{self.device.key}/2"

    def _empty(self) -> dict[str, bytes]:
        """The graphs that tell the overhead."""
        if self.device.runtime == OURS:
            return {OVERHEAD: overhead_graph()}
        return {OVERHEAD: transformer_graph(*SMALL, layers=1), TWICE: transformer_graph(*SMALL, layers=2)}

    def lookup(self, keys: Iterable[str]) -> dict[str, Entry | None]:
        """Key -> stored entry; None if there is no entry, or an invalid one.

        Raises:
            StorageFailed: the file cannot be opened, or stays locked for a minute.
        """
        wanted = list(dict.fromkeys(keys))
        sql = "SELECT value, low, high, n, at, note FROM latency WHERE device = ? AND key = ?"

        def read(db: sqlite3.Connection) -> dict[str, Entry | None]:
            rows = {key: db.execute(sql, (self._whose, key)).fetchone() for key in wanted}
            return {key: _entry(row) for key, row in rows.items()}

        return self._do(read)

    def check(self) -> None:
        """Checks that timings can be stored, before any time is spent on them.

        Raises:
            StorageFailed: the file cannot be opened or written, or stays locked for a minute.
        """
        row = (self._whose, "wb/check", 0.0, 0.0, 0.0, 0, "", None)

        def write(db: sqlite3.Connection) -> None:  # the row is deleted in the same transaction, but SQLite does write
            db.execute("INSERT OR REPLACE INTO latency VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM latency WHERE device = ? AND key = ?", row[:2])

        self._do(write)

    def store(self, entries: Mapping[str, Entry], *, keep: bool = False) -> None:
        """Stores `entries`, replacing older ones of the same key unless `keep`. Raises as `lookup` does."""
        sql = f"INSERT OR {'IGNORE' if keep else 'REPLACE'} INTO latency VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        rows = [(self._whose, key, e.value, e.low, e.high, e.n, e.at, e.note) for key, e in entries.items()]
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
        """Key -> milliseconds of the graph without the overhead; only graphs missing in the table are measured, and stored.

        Raises:
            BadArtefact, Unsupported: as `wb.export.timing.measure.measure_latency` does.
            StorageFailed: as `lookup` does.
        """
        known = self.lookup(graphs)
        missing = {key: graph for key, graph in graphs.items() if known[key] is None}
        if missing:
            timed = measure_latency(
                {**missing, **self._empty()},
                self.device,
                precision=precision,
                cap_s=cap_s,
                seed=seed,
                progress=progress,
            )
            self._keep(timed)
        entries, scale = self.known(graphs)
        return {key: self._reading(entry, scale) for key, entry in entries.items()}

    def estimate(self, keys: Sequence[str]) -> Reading:
        """The predicted latency in ms: overhead plus the entries of all `keys`, which may repeat.

        For the interval, errors of different entries are independent, and those of a repeated entry are equal.

        Raises:
            BadOption: a key is not in the table.
            StorageFailed: as `lookup` does.
        """
        entries, scale = self.known([OVERHEAD, *keys])
        return summed(keys, entries, scale, self.device.text)

    def _keep(self, timed: Mapping[str, Latency]) -> None:
        """Stores the measured latencies, minus the overhead measured with them."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        overhead = _gross(timed[OVERHEAD], now)
        if TWICE in timed:
            overhead = _extrapolated(overhead, _gross(timed[TWICE], now))
        gross = {key: _gross(latency, now) for key, latency in timed.items() if key not in (OVERHEAD, TWICE)}
        pace = timed[OVERHEAD].reading.value / timed[OVERHEAD].ratio.value
        self.store({REFERENCE: Entry(pace, pace, pace, 1, now)}, keep=True)
        self.store({OVERHEAD: overhead} | {key: _net(entry, overhead) for key, entry in gross.items()})

    def known(self, keys: Iterable[str]) -> tuple[dict[str, Entry], float]:
        """Key -> stored entry, and the milliseconds of the reference.

        Raises:
            BadOption: a key is not in the table.
            StorageFailed: as `lookup` does.
        """
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
        """Runs `work` in one transaction; a damaged file is put aside once."""
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
                with suppress(sqlite3.OperationalError):  # another process is switching the mode right now
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
        """Renames the damaged file, unless another process has replaced it in the meantime."""
        with suppress(sqlite3.Error, StorageFailed), closing(self._open()) as db:
            if db.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                return
        aside = self.path.with_name(f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        with suppress(FileNotFoundError):
            self.path.replace(aside)
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.note = f"{self.path} was damaged ({why}); it is now {aside.name} and a new table was begun"


def summed(keys: Sequence[str], entries: Mapping[str, Entry], scale: float, device: str) -> Reading:
    """Overhead and the entries of all `keys` in ms, of which the reference takes `scale`; see `LatencyTable.estimate`."""
    counts = Counter([OVERHEAD, *keys])
    value = sum(count * entries[key].value for key, count in counts.items())
    half = math.sqrt(sum((count * entries[key].half()) ** 2 for key, count in counts.items()))
    return Reading(
        value=value * scale,
        unit="ms",
        how="predicted",
        interval=(max(0.0, value - half) * scale, (value + half) * scale),
        n=min(entries[key].n for key in counts),
        device=device,
        note=f"the sum of {len(keys)} timings; their interaction is not in the interval",
    )


def _entry(row: Sequence[Any] | None) -> Entry | None:
    """The entry in a row, or None if the row is invalid (SQLite stores any type in any column); it is measured again then."""
    if row is None or not all(isinstance(value, float) and math.isfinite(value) for value in row[:3]):
        return None
    texts = isinstance(row[4], str) and isinstance(row[5], str | None)
    return Entry(*row) if texts and isinstance(row[3], int) else None


def _gross(latency: Latency, at: str) -> Entry:
    """The measured ratio as an entry, including the overhead."""
    low, high = latency.ratio.interval or (latency.ratio.value, latency.ratio.value)
    return Entry(latency.ratio.value, low, high, latency.ratio.n, at, latency.ratio.note)


def _extrapolated(once: Entry, twice: Entry) -> Entry:
    """What is left of a graph where what it computes is nothing; errors add in quadrature."""
    value, half = max(0.0, 2 * once.value - twice.value), math.hypot(2 * once.half(), twice.half())
    return Entry(value, max(0.0, value - half), value + half, min(once.n, twice.n), once.at, once.note)


def _net(gross: Entry, overhead: Entry) -> Entry:
    """`gross` minus `overhead`, at least zero; their errors add in quadrature."""
    value, half = gross.value - overhead.value, math.hypot(gross.half(), overhead.half())
    return Entry(max(0.0, value), max(0.0, value - half), max(0.0, value + half), gross.n, gross.at, gross.note)
