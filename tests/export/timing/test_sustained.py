"""Latency under load that lasts: what slows down in the course of the time is seen, although the reference slows down too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from wb.core.errors import BadOption
from wb.export.timing import sustained
from wb.export.timing.clock import Sample
from wb.export.timing.sustained import sustained_latency
from wb.hardware.device import Device


class Clock:
    """A clock that goes on by a tenth of a second a batch."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Heating:
    """A device on which everything takes `slower` times as long from the time `after` on; other work disturbs some samples."""

    def __init__(self, clock: Clock, slower: float, after: float) -> None:
        self.notes: dict[str, str | None] = {"a.onnx": None}
        self.cost_s = {"a.onnx": 0.01}
        self.clock, self.slower, self.after = clock, slower, after

    def run(self, order: Sequence[str]) -> list[Sample]:
        factor = self.slower if self.clock.now >= self.after else 1.0
        self.clock.now += 0.1
        clean, held = Sample(0.002 * factor, 0.002 * factor, True), Sample(0.5, 0.002 * factor, False)
        return [clean, *([clean, clean] * (len(order) - 1)), held, clean]


@pytest.mark.parametrize(("slower", "after", "ratio"), [(1.0, 0, 1.0), (2.5, 30, 2.5), (2.5, 9, 2.5)])
def test_the_last_fifth_is_compared_with_the_first(
    monkeypatch: pytest.MonkeyPatch, slower: float, after: float, ratio: float
) -> None:
    clock, heard = Clock(), list[float]()
    monkeypatch.setattr(sustained, "time", clock)
    monkeypatch.setattr(sustained, "bench_of", lambda *_: Heating(clock, slower, after))
    found = sustained_latency(Path("a.onnx"), Device(), 60, progress=heard.append)
    assert found["latency, sustained"].value == pytest.approx(2 * slower)
    compared = found["sustained / first"]
    assert compared.interval is not None
    assert compared.interval[0] <= compared.value <= compared.interval[1]
    assert compared.value == pytest.approx(ratio, rel=0.3)  # at 9 s the first fifth is slow in part
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(60, abs=0.2)
    assert "disturbed" in str(compared.note)


def test_too_short_a_time_says_how_long_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sustained, "time", clock)
    monkeypatch.setattr(sustained, "bench_of", lambda *_: Heating(clock, 1.0, 0))
    with pytest.raises(BadOption, match=r"1 s are not enough .*: give 6 s or more"):
        sustained_latency(Path("a.onnx"), Device(), 1)
    clock.now = 0.0
    assert sustained_latency(Path("a.onnx"), Device(), 6)
