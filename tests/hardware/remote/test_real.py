"""A real device, where WB_DEVICE names one (`benchmarks/device_setup.sh` makes two); what it computes, never its times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wb.export.timing.bench import There
from wb.export.timing.checkup import ALIKE, checkup
from wb.export.timing.measure import FEWEST, measure_latency
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import parse_device
from wb.hardware.remote.address import link_to

ADDRESS = os.environ.get("WB_DEVICE", "")
pytestmark = pytest.mark.skipif(not ADDRESS, reason="WB_DEVICE names no device")


def test_it_computes_what_this_machine_does() -> None:
    found = checkup(ADDRESS, 1, 0.1, lambda *_: None)
    assert found.difference <= ALIKE
    assert found.opset >= 20


def test_it_is_timed_and_comes_back_when_its_channel_is_cut(tmp_path: Path) -> None:
    graph = tmp_path / "a.onnx"
    graph.write_bytes(transformer_graph(4, 8, 1))
    device = parse_device(ADDRESS)
    found = measure_latency({"a": graph}, device, cap_s=1.0)["a"]
    assert found.clean + found.rejected >= FEWEST
    bench = There({"a": graph}, device, 1, 0)
    link = link_to(str(device.address))
    assert link._process is not None
    link._process.kill()
    assert len(bench.run(["a"])) == 3
