"""NNCF's graph: one run in a process of its own, which has to be silent and leave nothing behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.compress.ptq.graphs import inputs, subject
from tests.export.lowering.test_fold import WIDTH, WORDS, tied
from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.static import Static, static_int8
from wb.compress.ptq.subject import Subject, of_graph
from wb.core.errors import BadOption
from wb.export.lowering.products import linear_nodes, lowered_nodes, products
from wb.hardware.device import Device, session

KEPT = ("s0.b0.ffn.in", "head")
SCRIPT = """
import os, pickle, sys
from wb.core.errors import Unsupported
from wb.compress.ptq.static import static_int8
subject, old, inputs, kept = pickle.load(open(sys.argv[1], "rb"))
environment = dict(os.environ)
static = static_int8(subject, inputs, kept)
try:
    static_int8(old, {"x": inputs["pixel_values"].reshape(-1, 4)})
except Unsupported as error:
    refused = str(error)
foreign = {name: static_int8(one, given, keep) for name, (one, given, keep) in pickle.load(open(sys.argv[3], "rb")).items()}
telemetry = type(sys.modules["nncf.telemetry"].telemetry).__name__
result = (static.graph, static.groups, refused, telemetry, dict(os.environ) == environment, foreign)
pickle.dump(result, open(sys.argv[2], "wb"))
"""


@dataclass
class Run:
    """What the process gave, printed, and left in its home and working folder."""

    graph: onnx.ModelProto
    groups: tuple[str, ...]
    refused: str
    telemetry: str
    same_environment: bool
    foreign: dict[str, Static]
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


def refusing(path: Path) -> Subject:
    """Three products; of the second, whose weights have a third dimension, the runtime refuses the zero points."""
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 8), "b": (1, 8, 8), "c": (8, 8)}
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    chain = [("x", "a", "h"), ("h", "b", "i"), ("i", "c", "out")]
    nodes = [helper.make_node("MatMul", [taken, name], [given], name=name) for taken, name, given in chain]
    taken = helper.make_tensor_value_info("x", 1, ["n", 8])
    given = helper.make_tensor_value_info("out", 1, [1, "n", 8])
    graph = helper.make_graph(nodes, "g", [taken], [given], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return of_graph(path)


def two(path: Path, *more: str) -> Subject:
    """Two products; the graph gives `more` as well, which may be weights of the first, `a`."""
    rng = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(rng.normal(size=(8, 8)).astype(np.float32), name) for name in "ab"]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"], name="second"),
    ]
    taken, *given = (helper.make_tensor_value_info(n, 1, [8 if n == "a" else "n", 8]) for n in ("x", "y", *more))
    graph = helper.make_graph(nodes, "g", [taken], given, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return of_graph(path)


def foreign_ones(folder: Path) -> dict[str, tuple[Subject, Inputs, list[str]]]:
    """Subjects with inputs for them, and groups to keep."""
    words: Inputs = {"x": np.arange(WORDS)}
    eights: Inputs = {"x": np.random.default_rng(1).random((8, 8), np.float32)}
    return {
        "refusing": (refusing(folder / "r.onnx"), {"x": np.ones((4, 8), np.float32)}, []),
        "two": (two(folder / "p.onnx"), eights, []),
        "two, giving": (two(folder / "g.onnx", "a"), eights, []),
        "tied": (of_graph(tied(folder / "t.onnx", "Transpose")), words, []),
        "tied, head kept": (of_graph(tied(folder / "t.onnx", "Transpose")), words, ["head"]),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("static")
    home, given, result, more = (folder / name for name in ("home", "given", "result", "more"))
    home.mkdir()
    more.write_bytes(pickle.dumps(foreign_ones(folder)))
    given.write_bytes(pickle.dumps((subject(), old_graph(), inputs(), KEPT)))
    alone = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI")}
    environment = {**alone, "HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
    environment["ORT_DISABLE_TELEMETRY"] = "1"  # importing onnxruntime leaves files of its own
    command = [sys.executable, "-c", SCRIPT, str(given), str(result), str(more)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = [str(path.relative_to(home)) for path in home.rglob("*")]
    graph, groups, refused, telemetry, same, foreign = pickle.loads(result.read_bytes())
    return Run(graph, groups, refused, telemetry, same, foreign, done.stdout + done.stderr, left)


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


def test_a_group_that_the_runtime_refuses_is_left_out(run: Run) -> None:
    static = run.foreign["refusing"]
    assert static.groups == ("a", "c")
    assert static.reasons == {"b": "the runtime refuses it in static 8 bits"}
    assert lowered_nodes(static.graph) == {"a": "int8", "c": "int8"}
    assert outputs(static.graph, {"x": np.ones((2, 8), np.float32)}, Device()).shape == (2, 1, 8)


def test_weights_that_the_graph_gives_stay_as_they_are(run: Run, tmp_path: Path) -> None:
    """And the graph computes what it does where it does not give them."""
    static, plain = run.foreign["two, giving"], run.foreign["two"]
    assert static.groups == plain.groups == ("first", "second")
    x = np.random.default_rng(2).random((8, 8), np.float32)
    y, same = session(static.graph.SerializeToString(), Device()).run(None, {"x": x})
    (wanted,) = session(plain.graph.SerializeToString(), Device()).run(None, {"x": x})
    np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=0.2)
    tensors = {tensor.name: tensor for tensor in two(tmp_path / "p.onnx").graph.graph.initializer}
    np.testing.assert_array_equal(same, numpy_helper.to_array(tensors["a"]))


def test_a_tied_embedding_is_in_eight_bits_once(run: Run) -> None:
    """Or not at all, where the head that shares its weights is kept."""
    sizes = {name: run.foreign[name].graph.ByteSize() / (4 * WORDS * WIDTH) for name in ("tied", "tied, head kept")}
    assert run.foreign["tied"].groups == ("middle", "head")
    assert sizes["tied"] < 0.6
    assert run.foreign["tied, head kept"].groups == ("middle",)
    assert 1 < sizes["tied, head kept"] < 1.25
    assert products(run.foreign["tied, head kept"].graph).keys() == {"head"}
    for name in sizes:
        onnx.checker.check_model(run.foreign[name].graph)


def test_groups_to_keep() -> None:
    with pytest.raises(BadOption, match="no group named neck"):
        static_int8(subject(), inputs(), ["neck"])
    with pytest.raises(BadOption, match="nothing to quantize"):
        static_int8(subject(), inputs(), list(subject().groups))
