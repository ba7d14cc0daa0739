"""NNCF's graph: one run in a process of its own, which has to be silent and leave nothing behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.quantization.graphs import inputs, subject
from wb.core.errors import BadOption
from wb.export.products import linear_nodes
from wb.hardware.device import Device
from wb.quantization.outputs import compare, outputs
from wb.quantization.static import static_int8
from wb.quantization.subject import Subject

KEPT = ("s0.b0.ffn.in", "head")
SCRIPT = """
import os, pickle, sys
from wb.core.errors import Unsupported
from wb.quantization.static import static_int8
subject, old, inputs, kept = pickle.load(open(sys.argv[1], "rb"))
environment = dict(os.environ)
static = static_int8(subject, inputs, kept)
try:
    static_int8(old, {"x": inputs["pixel_values"].reshape(-1, 4)})
except Unsupported as error:
    refused = str(error)
telemetry = type(sys.modules["nncf.telemetry"].telemetry).__name__
pickle.dump((static.graph, static.groups, refused, telemetry, dict(os.environ) == environment), open(sys.argv[2], "wb"))
"""


@dataclass
class Run:
    """What the process gave, printed, and left in its home and working folder."""

    graph: onnx.ModelProto
    groups: tuple[str, ...]
    refused: str
    telemetry: str
    same_environment: bool
    printed: str
    left: list[str]


def old_graph() -> Subject:
    """A product in an opset that NNCF does not take."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "weight")
    taken, given = (helper.make_tensor_value_info(n, 1, ["n", size]) for n, size in (("x", 4), ("out", 3)))
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["out"], name="product")]
    graph = helper.make_graph(nodes, "old", [taken], [given], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    return Subject(model, {"product": ("product",)}, {"product": ("int8", "fp32")})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("static")
    home, given, result = folder / "home", folder / "given", folder / "result"
    home.mkdir()
    given.write_bytes(pickle.dumps((subject(), old_graph(), inputs(), KEPT)))
    alone = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI")}
    environment = {**alone, "HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
    environment["ORT_DISABLE_TELEMETRY"] = "1"  # importing onnxruntime leaves files of its own
    command = [sys.executable, "-c", SCRIPT, str(given), str(result)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = [str(path.relative_to(home)) for path in home.rglob("*")]
    graph, groups, refused, telemetry, same = pickle.loads(result.read_bytes())
    return Run(graph, groups, refused, telemetry, same, done.stdout + done.stderr, left)


def test_groups_that_are_kept_stay_as_they_are(run: Run) -> None:
    given = subject()
    assert run.groups == tuple(group for group in given.groups if group not in KEPT)
    floating = linear_nodes(run.graph)
    assert set(floating) == {node for group in KEPT for node in given.groups[group]}


def test_the_graph_is_small_and_right(run: Run) -> None:
    error = compare(outputs(subject().graph, inputs(), Device()), outputs(run.graph, inputs(), Device()))
    assert 20 < error.sqnr < 60
    assert len(run.graph.SerializeToString()) < 0.7 * len(subject().graph.SerializeToString())


def test_weights_are_in_eight_bits_per_channel(run: Run) -> None:
    shapes = {tensor.name: sorted(tensor.dims) for tensor in subject().graph.graph.initializer}
    kept = linear_nodes(run.graph)
    lowered = [shapes[name] for node, name in linear_nodes(subject().graph).items() if node not in kept]
    tensors = {tensor.name: tensor for tensor in run.graph.graph.initializer}
    eight, scales = [], []
    for node in run.graph.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors and len(tensors[node.input[0]].dims) > 1:
            eight.append(sorted(tensors[node.input[0]].dims))
            scales.append(tensors[node.input[1]].dims[0] in tensors[node.input[0]].dims)
    assert sorted(eight) == sorted(lowered)
    assert all(scales)


def test_metadata_are_kept(run: Run) -> None:
    assert run.graph.metadata_props == subject().graph.metadata_props
    assert {entry.key for entry in run.graph.metadata_props} >= {"wb.architecture"}


def test_nothing_is_printed_left_or_told(run: Run) -> None:
    assert run.printed == ""
    assert run.left == []
    assert run.same_environment
    assert run.telemetry == "MagicMock"  # the one that NNCF takes where it is not to tell


def test_what_nncf_refuses_is_said(run: Run) -> None:
    assert "opset version < 10" in run.refused
    assert "int8-dynamic" in run.refused


def test_groups_to_keep() -> None:
    with pytest.raises(BadOption, match="no group named neck"):
        static_int8(subject(), inputs(), ["neck"])
    with pytest.raises(BadOption, match="nothing to quantize"):
        static_int8(subject(), inputs(), list(subject().groups))
