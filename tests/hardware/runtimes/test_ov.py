"""OpenVINO, where it is installed: it computes what ONNX Runtime does, and says what it lacks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.errors import BadArtefact
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.core.system.files import scratch
from wb.export.run import Runner
from wb.export.timing.blocks import estimate, parts
from wb.export.timing.footprint import Footprint, footprint
from wb.export.timing.measure import measure_latency, reference_pace
from wb.export.timing.reference import overhead_graph, transformer_graph
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device, example_inputs, parse_device, session
from wb.hardware.remote.elsewhere import ours_there
from wb.hardware.remote.session import Remote
from wb.hardware.runtimes.base import Loaded
from wb.hardware.runtimes.conversion import converted
from wb.hardware.runtimes.known import runtime, way_of

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
GRAPH = transformer_graph(4, 8, 1)


def loaded(graph: bytes, batch: int = 1) -> Loaded:
    """A session of OpenVINO."""
    ours = session(graph, Device())
    return converted(graph, parse_device("openvino"), ours, example_inputs(ours, batch)).load()


def strange() -> bytes:
    """A graph with an operator that nobody has."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"], name="strange")], "g", [x], [y])
    return bytes(helper.make_model(graph).SerializeToString())


def footprint_of(device: Device) -> Footprint:
    """What the smallest graph takes there."""
    with scratch() as folder:
        (folder / "a.onnx").write_bytes(overhead_graph())
        return footprint(folder / "a.onnx", device, processes=1)


def test_it_computes_what_onnxruntime_does_and_keeps_its_outputs() -> None:
    ours = session(GRAPH, Device())
    one, other = (example_inputs(ours, 3, seed) for seed in (0, 1))
    theirs = loaded(GRAPH, 3)
    assert [(spec.name, spec.type, spec.shape) for spec in theirs.get_inputs()] == [("x", "tensor(float)", [3, 4, 8])]
    names = [output.name for output in ours.get_outputs()]
    (first,) = theirs.run(names, one)
    kept = first.copy()
    theirs.run(None, other)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first, ours.run(names, one)[0], atol=1e-5)


def test_it_is_timed_beside_onnxruntime() -> None:
    device = parse_device("openvino")
    found = measure_latency({"a": GRAPH, "b": GRAPH}, Device(), on={"b": device}, cap_s=0.5)
    assert found["b"].reading.device == device.text
    assert device.key != Device().key
    assert sum(runtime("openvino").nodes(GRAPH, "openvino", 1).values()) > 5
    assert (way_of("openvino", "int8"), way_of("cpu", "int8"), way_of("pi", "int8")) == ("static", "dynamic", "dynamic")


def test_blocks_have_timings_of_its_own(tmp_path: Path) -> None:
    device = parse_device("openvino")
    block = Block(mixer=Softmax(heads=2, qk=8, v=8), ffn=Mlp(mlp=16))
    image = ImageInput(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))
    network = assembled(input=image, stem=PatchStem(patch=4), stages=(Stage(embed=16, blocks=(block,)),))
    assert estimate(network, LatencyTable(device, tmp_path)).device == device.text
    assert not any(LatencyTable(Device(), tmp_path).lookup([part.key for part in parts(network)]).values())


def test_elsewhere_it_is_timed_beside_onnxruntime_and_scores() -> None:
    device = parse_device("local,runtime=openvino")
    found = measure_latency({"a": GRAPH, "b": overhead_graph()}, device, batch=3, cap_s=0.5)
    assert found["a"].reading.device == device.text
    assert "of one run, which takes 3" in str(found["a"].reading.note)
    assert "outputs differ from onnxruntime's by" in str(found["a"].reading.note)
    assert found["b"].ratio.value < found["a"].ratio.value
    assert reference_pace(device, cap_s=0.5).device == ours_there(device).text
    assert footprint_of(device).readings["load warm"].value > 0


@pytest.mark.parametrize("name", ["openvino", "local,runtime=openvino"])
def test_it_scores_examples_of_any_number(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(GRAPH)
    device = parse_device(name).scoring("device")
    images = {"x": np.random.default_rng(0).random((150, 4, 8), dtype=np.float32)}
    given, ours = (Runner(tmp_path / "a.onnx", one)(images) for one in (device, Device()))
    assert device.scorer.runtime == "openvino"
    np.testing.assert_allclose(given, ours, atol=1e-5)


def test_a_graph_that_it_lacks_an_operator_for_is_named_elsewhere_too() -> None:
    with pytest.raises(BadArtefact, match="Frobnicate, at the node 'strange'"):
        Remote(strange(), "it", parse_device("local,runtime=openvino"))


@pytest.mark.parametrize(
    ("content", "message"), [(b"nonsense", "is not an ONNX graph"), (b"", "Frobnicate, at the node 'strange'")]
)
def test_what_it_cannot_load_is_said(content: bytes, message: str) -> None:
    with pytest.raises(BadArtefact, match=message):
        runtime("openvino").load(content or strange(), "openvino", 1)
