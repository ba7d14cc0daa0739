"""Qualcomm's plugin: what it is asked, what its process may answer, and the real one where it is installed."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from wb.core.errors import BadArtefact, BadOption, MissingExtra, Unsupported
from wb.export.npu import qnn, simulator
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import Device, session
from wb.hardware.runtimes.shapes import shaped

ROWS = {"x": np.random.default_rng(0).random((2, 1, 4, 8), dtype=np.float32)}
GRAPH = shaped(transformer_graph(4, 8, 1), {"x": ROWS["x"][0]}).SerializeToString()
SAYS = (
    "import json, sys, time, numpy; order = json.load(sys.stdin); say = lambda **a: print(json.dumps(a), flush=True); "
)


def on_cpu() -> tuple[str, NDArray[Any]]:
    """The name of the graph's output, and what ONNX Runtime gives."""
    loaded = session(GRAPH, Device())
    return loaded.get_outputs()[0].name, np.stack([loaded.run(None, {"x": x})[0] for x in ROWS["x"]])


def simulated(tmp_path: Path) -> qnn.Simulation:
    output, _ = on_cpu()
    return qnn.simulate(GRAPH, ROWS, output, qnn.SOCS[qnn.SOC], tmp_path / "c.onnx", lambda _: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A plugin that registers, offers a device and takes no node; what it was asked."""
    asked: dict[str, Any] = {}

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]  # has no types
        def add_provider_for_devices(self, devices: Any, options: Mapping[str, str]) -> None:
            asked.update(devices=devices, options=options)

    device = SimpleNamespace(ep_name=simulator.PROVIDER)
    plugin = SimpleNamespace(get_library_path=lambda: "lib.so", get_qnn_htp_path=lambda: "htp.so")
    monkeypatch.setitem(sys.modules, simulator.MODULE, plugin)
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *given: asked.update(registered=given)
    )
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [SimpleNamespace(ep_name="CPU"), device])
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    return asked


def ordered(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "g.onnx").write_bytes(GRAPH)
    np.savez(tmp_path / "i.npz", **ROWS)  # type: ignore[arg-type]
    files = {"graph": "g.onnx", "inputs": "i.npz", "outputs": "o.npy", "compiled": "c.onnx"}
    order = {name: str(tmp_path / file) for name, file in files.items()}
    return {**order, "output": on_cpu()[0], "soc": "43", "arch": "73"}


def test_the_plugin_is_registered_and_told_the_processor(tmp_path: Path, asked: dict[str, Any]) -> None:
    lines: list[Mapping[str, Any]] = []
    simulator.simulate(ordered(tmp_path), lines.append)
    assert asked["registered"] == (simulator.PROVIDER, "lib.so")
    assert [one.ep_name for one in asked["devices"]] == [simulator.PROVIDER]
    assert asked["options"] == {"backend_path": "htp.so", "soc_model": "43", "htp_arch": "73"}
    assert lines[1:] == [{"ran": 1}, {"ran": 2}, {"done": True}]
    nodes = qnn.Simulation(lines[0]["nodes"], None)
    assert (nodes.taken, nodes.whole) == (0, False)  # as nothing took them, ONNX Runtime did
    assert sum(nodes.left.values()) > 5
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), on_cpu()[1])


def test_a_plugin_without_a_device_says_so(
    tmp_path: Path, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    with pytest.raises(RuntimeError, match="offers no device"):
        simulator.simulate(ordered(tmp_path), lambda _: None)


@pytest.mark.parametrize(
    ("nodes", "whole", "left"),
    [
        ({simulator.PROVIDER: {"MatMul": 3}}, True, {}),
        ({simulator.PROVIDER: {"MatMul": 3}, "CPU": {"QuantizeLinear": 1}}, True, {"QuantizeLinear": 1}),
        ({simulator.PROVIDER: {"MatMul": 3}, "CPU": {"MatMulNBits": 2}}, False, {"MatMulNBits": 2}),
        ({"CPU": {"QuantizeLinear": 1}}, False, {"QuantizeLinear": 1}),
    ],
)
def test_whole_is_all_but_conversions_at_the_ends(
    nodes: Mapping[str, Mapping[str, int]], whole: bool, left: Mapping[str, int]
) -> None:
    found = qnn.Simulation(nodes, None)
    assert (found.whole, found.left) == (whole, left)


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("say(error='1 : FAIL : no memory')", "no memory"),
        ("say(nodes={'CPU': {'Add': 1}}); sys.exit(7)", r"the simulator ended its process \(exit code 7\)"),
        ("import os; os.abort()", r"the compiler ended its process \(exit code -6\)"),
    ],
)
def test_a_compiler_that_fails_is_quoted(
    script: str, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qnn, "COMMAND", (sys.executable, "-c", SAYS + script))
    found = simulated(tmp_path)
    assert found.outputs is None
    assert re.search(failure, found.failure)


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qnn, "SILENCE_S", 0.5)
    monkeypatch.setattr(qnn, "COMMAND", (sys.executable, "-S", "-c", "import time; time.sleep(60)"))
    assert "exit code -9, killed as it was silent for 0.5 s" in simulated(tmp_path).failure


def test_one_that_answers_nonsense_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qnn, "COMMAND", (sys.executable, "-S", "-c", "print('hello')"))
    with pytest.raises(BadArtefact, match="nonsense"):
        simulated(tmp_path)


def test_what_it_gives_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "numpy.save(order['outputs'], numpy.ones((2, 3))); say(nodes={'CPU': {}}); say(ran=2); say(done=True)"
    monkeypatch.setattr(qnn, "COMMAND", (sys.executable, "-c", SAYS + script))
    ran: list[int] = []
    found = qnn.simulate(GRAPH, ROWS, "y", qnn.SOCS[qnn.SOC], tmp_path / "c.onnx", ran.append)
    assert (found.failure, ran) == ("", [0, 2])
    np.testing.assert_array_equal(found.outputs, np.ones((2, 3)))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qnn, "find_spec", lambda _: None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(MissingExtra, match=r"pip install onnxruntime-qnn .*licence of Qualcomm's"):
        qnn.check_installed()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(Unsupported, match="aarch64"):
        qnn.check_installed()
    with pytest.raises(BadOption, match=r"sm8550 \(Snapdragon 8 Gen 2\)"):
        qnn.soc_of("sm8350")


@pytest.mark.skipif(
    find_spec(simulator.MODULE) is None, reason="Qualcomm's compiler (onnxruntime-qnn) is not installed"
)
@pytest.mark.parametrize("soc", ["sm8450", "sm8850"])
def test_the_real_one_computes_what_the_processor_does(soc: str, tmp_path: Path) -> None:
    output, expected = on_cpu()
    found = qnn.simulate(GRAPH, ROWS, output, qnn.SOCS[soc], tmp_path / "c.onnx", lambda _: None)
    assert (found.failure, found.whole, found.left) == ("", True, {})
    assert (tmp_path / "c.onnx").stat().st_size > 1000
    assert found.outputs is not None
    assert np.abs(found.outputs - expected).max() < 0.02 * np.abs(expected).max()
