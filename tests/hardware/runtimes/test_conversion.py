"""A graph for another runtime is compared before it is timed; and what a runtime lacks is named."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from wb.core.errors import BadArtefact, MissingExtra
from wb.export.timing.bench import bench_of
from wb.export.timing.clock import Sample
from wb.export.timing.measure import Pair, Timing, measure_latency
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import Device, example_inputs, parse_device, session
from wb.hardware.runtimes import known, ov
from wb.hardware.runtimes.base import Graph
from wb.hardware.runtimes.conversion import converted
from wb.hardware.runtimes.failures import why_not_loaded
from wb.hardware.runtimes.ort import OnnxRuntime

GRAPH = transformer_graph(4, 8, 1)


class Twisted(OnnxRuntime):
    """Another name for ONNX Runtime; on the device `twisted` it computes the mean of what it should, on `asleep` elsewhere."""

    name = "another"

    def devices(self) -> Mapping[str, str]:
        return {"another": "CPU", "twisted": "CPU", "asleep": "a card"}

    def load(self, graph: Graph, device: str, threads: int) -> Any:
        loaded = super().load(graph, "cpu", threads)
        return {"twisted": _Mean, "asleep": _Asleep}.get(device, lambda one: one)(loaded)


class _Mean:
    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def run(self, outputs: Any, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        return [np.full_like(one, one.mean()) for one in self.loaded.run(outputs, inputs)]


class _Asleep:
    """The caller's thread waits for what is computed elsewhere."""

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def get_outputs(self) -> Any:
        return self.loaded.get_outputs()

    def run(self, outputs: Any, inputs: Mapping[str, NDArray[Any]]) -> Any:
        time.sleep(0.002)
        return self.loaded.run(outputs, inputs)


@pytest.fixture(autouse=True)
def _another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "RUNTIMES", {**known.RUNTIMES, "another": f"{__name__}:Twisted"})


def test_a_device_of_another_runtime_is_told_from_ours() -> None:
    other = parse_device("another")
    assert (other.runtime, other.here) == ("another", Device())
    assert other.key != Device().key
    assert other.address is None


def test_two_runtimes_are_timed_in_turn_beside_one_reference(tmp_path: Path) -> None:
    found = measure_latency({"a": GRAPH, "b": GRAPH}, Device(), on={"b": parse_device("another")}, cap_s=0.5)
    assert [one.reading.device for one in found.values()] == [Device().text, parse_device("another").text]
    assert "outputs differ from onnxruntime's by 0 of" in str(found["b"].reading.note)
    bench = bench_of({"b": GRAPH}, parse_device("another"), 3, 0)
    assert "of one run, which takes 3" in str(bench.notes["b"])


def test_what_computes_something_else_is_not_timed() -> None:
    with pytest.raises(BadArtefact, match=r"another .* computes something else of the graph in memory"):
        measure_latency({"a": GRAPH}, parse_device("twisted"))


def test_the_time_of_what_another_processor_computes_is_not_that_of_the_thread_that_waits() -> None:
    device = parse_device("asleep")
    assert not device.on_cpu
    assert all(sample.clean and sample.wall > 0.002 for sample in bench_of({"b": GRAPH}, device, 1, 0).run(["b"])[1::2])
    for found in (
        measure_latency({"b": GRAPH}, device, cap_s=0.3),
        measure_latency({"b": GRAPH}, Device(), on={"b": device}, cap_s=0.3),
    ):
        assert (
            found["b"].reading.value > 1
        )  # where the reference was disturbed it is set against more than its own time
        assert "CPU time" not in str(found["b"].reading.note)
    both = [Pair(Sample(0.004, 0.001, False), Sample(0.002, 0.001, False), Sample(0.002, 0.001, False))] * 8
    timing = Timing(["b", "c"], bench_of({"b": GRAPH}, device, 1, 0), True, random.Random(0), off=["b"])
    timing.pairs = {"b": [both] * 8, "c": [both] * 8}
    assert (timing.relation("b").value, timing.relation("c").value) == (2, 1)


def test_shapes_are_fixed_and_everything_else_stays() -> None:
    loaded = session(GRAPH, Device())
    inputs = example_inputs(loaded, batch=3)
    fixed = ov.OpenVino().prepare(GRAPH, inputs)
    again = session(fixed, Device())
    assert [one.shape for one in again.get_inputs()] == [[3, 4, 8]]
    np.testing.assert_array_equal(*(one.run(None, inputs)[0] for one in (loaded, again)))
    assert converted(GRAPH, parse_device("another"), again, inputs).error == 0


def test_a_runtime_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'wb\[openvino\]'"):
        parse_device("openvino")


@pytest.mark.parametrize(
    "message",
    [
        'In Node, ("strange", Frobnicate, "", -1) : Error No Op registered for Frobnicate with domain_version of 17',
        "Fatal error: com.x:Frobnicate(-1) is not a registered function/op",
        "Exception from core.cpp:1:\nCheck 'false' failed\n-- No conversion rule found for operations: Frobnicate-17\n",
    ],
)
def test_an_operator_that_is_lacking_is_named_with_its_node(message: str) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], name="strange")]
    graph = helper.make_model(helper.make_graph(nodes, "g", [x], [y])).SerializeToString()
    text = why_not_loaded("a.onnx", message, "some 1.0", "cpu", graph)
    assert "a.onnx uses an operator that some 1.0 lacks on cpu: Frobnicate, at the node 'strange'" in text
    assert "core.cpp" not in text
