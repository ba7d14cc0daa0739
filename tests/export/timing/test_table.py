"""The latency table: measured once, shared by processes, never a crash on a damaged file."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from wb.core.errors import BadOption, StorageFailed
from wb.core.measures.readings import Reading
from wb.export.timing import table as module
from wb.export.timing.measure import Latency
from wb.export.timing.reference import transformer_graph
from wb.export.timing.table import OVERHEAD, REFERENCE, TWICE, Entry, LatencyTable
from wb.hardware.device import Device, parse_device

DEVICE = Device(processor="p", version="1")


class Clock:
    """Instead of measuring: each graph costs 0.1 x the overhead's ratio plus its own length in bytes, in x."""

    def __init__(self, pace: float = 2.0) -> None:
        self.pace = pace
        self.timed: list[list[str]] = []

    def __call__(self, graphs: Mapping[str, bytes], device: Device, **_: Any) -> dict[str, Latency]:
        self.timed.append(list(graphs))
        return {key: self.latency(0.1 if key == OVERHEAD else 0.1 + len(graph)) for key, graph in graphs.items()}

    def latency(self, ratio: float) -> Latency:
        def reading(value: float, unit: str) -> Reading:
            return Reading(value=value, unit=unit, how="measured", interval=(value - 0.03, value + 0.03), n=50)

        return Latency(reading(ratio * self.pace, "ms"), reading(ratio, "x"), 50, 0, 1.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "measure_latency", clock)
    return clock


def test_each_graph_is_measured_once_and_net_of_the_overhead(tmp_path: Path, clock: Clock) -> None:
    table = LatencyTable(DEVICE, tmp_path)
    first = table.time({"a": b"1", "b": b"123"})
    assert {key: reading.value for key, reading in first.items()} == pytest.approx({"a": 2.0, "b": 6.0})
    assert (first["a"].unit, first["a"].how, first["a"].n, first["a"].device) == ("ms", "measured", 50, DEVICE.text)
    half = 0.03 * math.sqrt(2) * 2
    assert first["a"].interval == pytest.approx((2 - half, 2 + half))
    assert table.time({"a": b"1", "b": b"123"}) == first
    assert LatencyTable(DEVICE, tmp_path).time({"b": b"123", "c": b"12"})["b"] == first["b"]
    assert clock.timed == [["a", "b", OVERHEAD], ["c", OVERHEAD]]


def test_a_slow_hour_does_not_enter(tmp_path: Path, clock: Clock) -> None:
    """The ratio is what is kept: the same block timed on a machine at half speed has the same milliseconds."""
    table = LatencyTable(DEVICE, tmp_path)
    before = table.time({"a": b"12"})["a"]
    clock.pace = 4.0
    assert table.time({"b": b"12"})["b"].value == pytest.approx(before.value)
    assert table.time({"a": b""})["a"] == before


def test_the_overhead_of_another_runtime_is_what_is_left_without_layers(tmp_path: Path, clock: Clock) -> None:
    """Graphs of one and of two layers are 10 and 16 here: 4 are of neither."""
    other = DEVICE.model_copy(update={"runtime": "another"})
    costs = {OVERHEAD: 10.0, TWICE: 16.0, "a": 9.0}
    timed = lambda graphs, *_, **__: {key: clock.latency(costs[key]) for key in graphs}  # noqa: E731
    with patch.object(module, "measure_latency", timed):
        table = LatencyTable(other, tmp_path)
        assert table.time({"a": b"1"})["a"].value == pytest.approx(2 * 5.0)
    assert table.estimate(["a", "a"]).value == pytest.approx(2 * (4.0 + 5.0 + 5.0))
    assert LatencyTable(DEVICE, tmp_path).lookup(["a", OVERHEAD]) == {"a": None, OVERHEAD: None}


def test_estimate_is_overhead_plus_sum(tmp_path: Path, clock: Clock) -> None:
    table = LatencyTable(DEVICE, tmp_path)
    table.time({"a": b"1", "b": b"123"})
    found = table.estimate(["a", "b", "a"])
    assert found.value == pytest.approx(2 * (0.1 + 1 + 3 + 1))
    assert (found.unit, found.how) == ("ms", "predicted")
    net = 0.03 * math.sqrt(2)
    half = 2 * math.sqrt(0.03**2 + (2 * net) ** 2 + net**2)  # the error of "a" is the same both times
    assert found.interval == pytest.approx((found.value - half, found.value + half))
    assert found.note is not None
    assert clock.timed == [["a", "b", OVERHEAD]]


def test_estimate_needs_all_its_entries(tmp_path: Path, clock: Clock) -> None:
    table = LatencyTable(DEVICE, tmp_path)
    table.time({"a": b"1"})
    with pytest.raises(BadOption, match=r"1 of 4 timings are not in .*latency\.db for .*, the first is 'zz'"):
        table.estimate(["a", "zz"])


def test_a_graph_cheaper_than_the_overhead_costs_nothing(tmp_path: Path, clock: Clock) -> None:
    del clock
    found = LatencyTable(DEVICE, tmp_path).time({"empty": b""})["empty"]
    assert found.value == 0
    assert found.interval == pytest.approx((0, 2 * 0.03 * math.sqrt(2)))


def test_devices_do_not_share_entries(tmp_path: Path, clock: Clock) -> None:
    LatencyTable(DEVICE, tmp_path).time({"a": b"1"})
    other = LatencyTable(DEVICE.model_copy(update={"threads": 2}), tmp_path)
    assert other.lookup(["a"]) == {"a": None}
    other.time({"a": b"1"})
    assert len(clock.timed) == 2


def test_store_and_lookup(tmp_path: Path) -> None:
    table = LatencyTable(DEVICE, tmp_path / "new" / "folder")
    entry = Entry(1.5, 1.4, 1.6, 9, "2025-01-01T00:00:00+00:00", "a note")
    table.store({"a": entry})
    assert table.lookup(["a", "b"]) == {"a": entry, "b": None}
    newer = Entry(2.0, 1.9, 2.1, 9, "2025-01-02T00:00:00+00:00")
    table.store({"a": newer, "b": newer}, keep=True)
    assert table.lookup(["a", "b"]) == {"a": entry, "b": newer}
    table.store({"a": newer})
    assert table.lookup(["a"]) == {"a": newer}


@pytest.mark.parametrize("damage", ["text", "cut", "version"])
def test_a_damaged_file_is_put_aside(tmp_path: Path, damage: str) -> None:
    table = LatencyTable(DEVICE, tmp_path)
    entry = Entry(1.0, 1.0, 1.0, 1, "now")
    table.store({f"key {i}": entry for i in range(500)})
    with sqlite3.connect(table.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if damage == "version":
            db.execute("PRAGMA user_version = 99")
    db.close()
    content = table.path.read_bytes()
    if damage != "version":
        table.path.write_bytes(b"this is no database " * 100 if damage == "text" else content[:6000] + b"\0" * 9000)
    again = LatencyTable(DEVICE, tmp_path)
    assert set(again.lookup(f"key {i}" for i in range(500)).values()) == {None}
    assert again.note is not None
    assert "was damaged" in again.note
    assert len(list(tmp_path.glob("latency.db.damaged-*"))) == 1
    again.store({"a": entry})
    assert LatencyTable(DEVICE, tmp_path).lookup(["a"]) == {"a": entry}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="could not make"):
        LatencyTable(DEVICE, tmp_path / "file").lookup(["a"])
    (tmp_path / "latency.db").mkdir()
    with pytest.raises(StorageFailed, match="could not use"):
        LatencyTable(DEVICE, tmp_path).lookup(["a"])


WRITER = """
import sys
from pathlib import Path
from wb.export.timing.table import Entry, LatencyTable
from wb.hardware.device import Device
table = LatencyTable(Device(processor="p", version="1"), Path(sys.argv[1]))
for i in range(30):
    table.store({f"{sys.argv[2]}/{i}": Entry(i, i, i, 1, "now"), "shared": Entry(i, i, i, 1, "now")})
    assert table.lookup([f"{sys.argv[2]}/{i}"])[f"{sys.argv[2]}/{i}"].value == i
"""


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    running = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4, errors
    table = LatencyTable(DEVICE, tmp_path)
    found = table.lookup(f"{i}/{j}" for i in range(4) for j in range(30))
    assert all(entry is not None for entry in found.values())
    assert table.note is None


def test_real_graphs_add_up(tmp_path: Path) -> None:
    """Without a made-up clock: more layers cost more, and the table of a device is its own."""
    table = LatencyTable(parse_device(), tmp_path)
    graphs = {str(layers): transformer_graph(9, 16, layers) for layers in (2, 8)}
    found = table.time(graphs, precision=0.2, cap_s=3)
    assert found["8"].value > 2 * found["2"].value > 0
    assert table.estimate(["2", "2"]).value > 2 * found["2"].value
    entry = table.lookup([REFERENCE])[REFERENCE]
    assert entry is not None
    assert entry.value > 0


def test_what_cannot_be_written_is_found_by_a_check_that_leaves_nothing(tmp_path: Path) -> None:
    table = LatencyTable(DEVICE, tmp_path)
    table.check()
    assert table.lookup(["wb/check"]) == {"wb/check": None}
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="could not make"):
        LatencyTable(DEVICE, tmp_path / "file" / "cache").check()
    (tmp_path / "folder" / "latency.db").mkdir(parents=True)
    with pytest.raises(StorageFailed, match="could not use"):
        LatencyTable(DEVICE, tmp_path / "folder").check()


@pytest.mark.parametrize(
    ("column", "value"), [("value", "fast"), ("low", float("inf")), ("n", "many"), ("note", b"\xff")]
)
def test_an_entry_of_another_type_is_measured_again(tmp_path: Path, clock: Clock, column: str, value: object) -> None:
    table = LatencyTable(DEVICE, tmp_path)
    first = table.time({"a": b"1", "b": b"123"})
    with sqlite3.connect(table.path) as db:
        db.execute(f"UPDATE latency SET {column} = ? WHERE key = 'a'", (value,))
    db.close()
    assert table.time({"a": b"1", "b": b"123"}) == first
    assert clock.timed == [["a", "b", OVERHEAD], ["a", OVERHEAD]]
