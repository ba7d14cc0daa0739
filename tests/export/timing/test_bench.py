"""Samples from elsewhere are those of the same protocol, and an interruption is none of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from wb.core.errors import BadArtefact, BadOption
from wb.export.timing.bench import There, bench_of
from wb.export.timing.measure import FEWEST, measure_latency
from wb.export.timing.reference import overhead_graph, transformer_graph
from wb.hardware.device import Device, parse_device
from wb.hardware.remote import link as links
from wb.hardware.remote.address import link_to
from wb.hardware.remote.link import DeviceLost


@pytest.fixture(scope="module")
def device() -> Device:
    return parse_device("local")


def test_a_graph_is_timed_elsewhere_as_here(device: Device, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(transformer_graph(4, 8, 1))
    graphs: dict[str, Path | bytes] = {"a": tmp_path / "a.onnx", "b": overhead_graph()}
    found = measure_latency(graphs, device, batch=3, cap_s=1.0)
    assert found.keys() == graphs.keys()
    assert all(latency.clean + latency.rejected >= FEWEST for latency in found.values())
    assert all(latency.reading.device == device.text for latency in found.values())
    assert "of one run, which takes 3" in str(found["a"].reading.note)
    assert found["b"].ratio.value < found["a"].ratio.value


def test_both_benches_take_two_samples_a_turn_and_one_more(device: Device) -> None:
    for where in (device, device.here):
        bench = bench_of({"a": overhead_graph(), "b": overhead_graph()}, where, 1, 0)
        assert len(bench.run(["a", "b", "a"])) == 7
        assert {"a", "b"} <= bench.notes.keys()
        assert all(bench.cost_s[name] > 0 for name in ("a", "b"))


def test_a_batch_whose_runner_is_killed_is_taken_anew(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    bench = There({"a": overhead_graph()}, device, 1, 0)
    link = link_to("local")
    for _ in range(2):
        assert link._process is not None
        os.kill(link._process.pid, signal.SIGKILL)
        assert len(bench.run(["a"])) == 3


def test_a_device_that_stays_away_is_an_error_and_no_number(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    bench = There({"a": overhead_graph()}, device, 1, 0)
    link = link_to("local")
    assert link._process is not None
    with monkeypatch.context() as patch:
        patch.setattr(link, "_argv", ["no-such-command"])
        os.kill(link._process.pid, signal.SIGKILL)
        with pytest.raises(DeviceLost, match="local"):
            bench.run(["a"])
    assert len(bench.run(["a"])) == 3  # it is there again


def test_a_graph_that_does_not_load_there_is_the_graphs_fault(device: Device, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    with pytest.raises(BadArtefact, match=r"x\.onnx is not an ONNX graph"):
        measure_latency({"x": tmp_path / "x.onnx"}, device)
    with pytest.raises(BadArtefact, match="is not a file"):
        measure_latency({"x": tmp_path / "none.onnx"}, device)


def test_a_bench_never_samples_the_graphs_of_another(device: Device) -> None:
    """Not even where the other one was refused half-way."""
    bench = There({"g": overhead_graph()}, device, 1, 0)
    with pytest.raises(BadArtefact):
        There({"g": transformer_graph(196, 64, 4), "x": b"nonsense"}, device, 1, 0)
    other = There({"g": transformer_graph(196, 64, 4)}, device, 1, 0)
    small, large = (min(sample.wall for sample in one.run(["g"] * 3)[1::2]) for one in (bench, other))
    assert 10 * small < large


@pytest.mark.parametrize(
    "samples",
    [
        [[1.0, 1.0]] * 2,
        [[1.0, 1.0]] * 6,
        [[float("nan"), 1.0]] * 3,
        [[-1.0, 1.0]] * 3,
        [[0.0, 0.0]] * 3,
        ["a"] * 3,
        None,
    ],
)
def test_nonsense_is_no_sample(device: Device, monkeypatch: pytest.MonkeyPatch, samples: object) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    bench, link = There({"a": overhead_graph()}, device, 1, 0), link_to("local")
    ask = link.ask
    monkeypatch.setattr(link, "ask", lambda op, *a, **k: {"samples": samples} if op == "batch" else ask(op, *a, **k))
    with pytest.raises(DeviceLost, match="nonsense"):
        bench.run(["a"])


def test_another_device_at_the_address_is_noticed(device: Device) -> None:
    bench = There({"a": overhead_graph()}, device, 1, 0)
    bench._identity = ("another board", *bench._identity[1:])
    link_to("local").loaded = None
    with pytest.raises(BadOption, match="another device"):
        bench.run(["a"])
