"""Folding: constants once and bare, whatever reads them, and what Gemm multiplies by in its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from wb.core.records import Precision
from wb.export.lowering.fold import folded
from wb.export.lowering.lower import lower
from wb.export.lowering.products import linear_nodes, lowered_nodes, products
from wb.hardware.device import Device, session

WORDS, WIDTH = 200, 16
LOW: Precision = "int8"
Arrays = Mapping[str, NDArray[np.float32]]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def saved(
    path: Path,
    nodes: Sequence[NodeProto],
    weights: Arrays,
    taken: Sequence[str | int],
    given: Sequence[str | int],
    kind: int = TensorProto.FLOAT,
    ir: int = 9,
) -> Path:
    """A graph from `x` to `y`; before IR 4 every constant is an input."""
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("x", kind, taken)]
    inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors if ir < 4]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, given)], tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17 if ir > 3 else 9)], ir_version=ir)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def ran(graph: Path | onnx.ModelProto, x: NDArray[np.generic]) -> NDArray[np.float32]:
    loaded = session(graph if isinstance(graph, Path) else graph.SerializeToString(), Device())
    found: NDArray[np.float32] = loaded.run(None, {"x": x})[0]
    return found


def tied(path: Path, form: str) -> Path:
    """An embedding that is the head as well, in three ways of writing it."""
    e = normal(WORDS, WIDTH)
    nodes = [helper.make_node("Gather", ["e", "x"], ["h"], name="embedding")]
    nodes.append(helper.make_node("MatMul", ["h", "w"], ["m"], name="middle"))
    match form:
        case "Transpose":
            nodes.append(helper.make_node("Transpose", ["e"], ["t"], perm=[1, 0]))
            nodes.append(helper.make_node("MatMul", ["m", "t"], ["y"], name="head"))
        case "Gemm":
            nodes.append(helper.make_node("Gemm", ["m", "e"], ["y"], name="head", transB=1))
        case "Identity":
            nodes.insert(0, helper.make_node("Identity", ["e"], ["again"]))
            nodes.append(helper.make_node("Transpose", ["again"], ["t"], perm=[1, 0]))
            nodes.append(helper.make_node("MatMul", ["m", "t"], ["y"], name="head"))
    return saved(path, nodes, {"e": e, "w": normal(WIDTH, WIDTH)}, ["n"], ["n", WORDS], TensorProto.INT64)


@pytest.mark.parametrize("form", ["Transpose", "Gemm", "Identity"])
def test_a_tied_embedding_is_not_copied(tmp_path: Path, form: str) -> None:
    path = tied(tmp_path / "a.onnx", form)
    graph = folded(path)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.ByteSize() <= 1.01 * path.stat().st_size
    assert linear_nodes(graph) == {"middle": "w"}
    head = products(graph)["head"]
    assert (head.numbers, head.options) == (WORDS * WIDTH, ("fp32",))
    assert head.why == "its weights are read by Gather, too, which needs them in floating point"
    x = np.arange(WORDS)
    np.testing.assert_allclose(ran(graph, x), ran(path, x), rtol=1e-5, atol=1e-5)
    for precision in ("int8", "int4"):
        lowered = lower(graph, {"middle": precision})
        onnx.checker.check_model(lowered)
        assert lowered.ByteSize() < path.stat().st_size, precision


def test_weights_that_others_read_as_they_are_stay_in_floating_point(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Add", ["h", "w"], ["y"], name="sum"),
    ]
    graph = folded(saved(tmp_path / "a.onnx", nodes, {"w": normal(8, 8)}, [8, 8], [8, 8]))
    assert products(graph)["product"].why == "its weights are read by Add, too, which needs them in floating point"
    assert not linear_nodes(graph)


def test_products_that_share_weights_behind_transposes_share_one_copy(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["h"], name="one"),
        helper.make_node("Transpose", ["w"], ["u"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "u"], ["y"], name="two"),
    ]
    path = saved(tmp_path / "a.onnx", nodes, {"w": normal(32, 32)}, ["n", 32], ["n", 32])
    graph = folded(path)
    assert len(graph.graph.initializer) == 1
    found = linear_nodes(graph)
    assert found["one"] == found["two"]
    assert lower(graph, {"one": "int8", "two": "int8"}).ByteSize() < 0.6 * path.stat().st_size


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_only_one_of_two_that_share_weights_is_rounded(tmp_path: Path, precision: str) -> None:
    """The other computes what it did: in eight bits the quantizer would have it read rounded weights."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="one"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="two"),
    ]
    graph = folded(saved(tmp_path / "a.onnx", nodes, {"w": normal(32, 32)}, ["n", 32], ["n", 32]))
    lowered = lower(graph, {"one": precision})  # type: ignore[dict-item]
    assert lowered_nodes(lowered) == {"one": precision}
    kept = products(lowered)["two"]
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in lowered.graph.initializer}
    assert np.array_equal(tensors[kept.weight], normal(32, 32))
    assert kept.weight in kept.node.input


GEMMS = [
    (alpha, beta, a, b, bias)
    for alpha in (1.0, 0.5)
    for beta in (0.0, 1.0, -2.0)
    for a, b in ((0, 1), (1, 0))
    for bias in (0, 1)
]


def test_a_gemm_whose_weights_others_read_computes_what_it_did(tmp_path: Path) -> None:
    """Neither transposed nor multiplied in place."""
    w, x = normal(5, 5), normal(3, 5, seed=1)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], name="one", transB=1, alpha=0.5),
        helper.make_node("Gemm", ["h", "w"], ["i"], name="two"),
        helper.make_node("Gemm", ["i", "w", "x"], ["y"], name="three", alpha=2.0, beta=3.0),
    ]
    graph = folded(saved(tmp_path / "a.onnx", nodes, {"w": w}, [3, 5], [3, 5]))
    np.testing.assert_allclose(ran(graph, x), 2 * (0.5 * x @ w.T @ w) @ w + 3 * x, rtol=1e-4, atol=1e-4)
    assert set(products(graph)) == {"one", "two", "three"}
    assert not linear_nodes(graph)  # in fewer bits for two of them they would come on top
    assert not any(node.op_type == "Gemm" for node in graph.graph.node)


@pytest.mark.parametrize(("alpha", "beta", "a", "b", "bias"), GEMMS)
def test_alpha_and_beta_go_into_weights_and_bias(
    tmp_path: Path, alpha: float, beta: float, a: int, b: int, bias: int
) -> None:
    w, c, x = normal(6, 5), normal(5, seed=1), normal(4, 6, seed=2)
    more = ["c"] if bias else []
    node = helper.make_node("Gemm", ["x", "w", *more], ["y"], name="g", alpha=alpha, beta=beta, transA=a, transB=b)
    weights = {"w": np.ascontiguousarray(w.T) if b else w, **({"c": c} if bias else {})}
    path = saved(tmp_path / "a.onnx", [node], weights, [6, 4] if a else [4, 6], [4, 5])
    graph = folded(path)
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds == [*(["Transpose"] if a else []), "MatMul", *(["Add"] if bias and beta else [])]
    assert linear_nodes(graph) == {"g": "w"}
    given = np.ascontiguousarray(x.T) if a else x
    expected = alpha * x @ w + (beta * c if bias else 0)
    np.testing.assert_allclose(ran(graph, given), expected, rtol=1e-4, atol=1e-5)
    for precision in ("int8", "int4"):
        assert lowered_nodes(lower(graph, {"g": precision})) == {"g": precision}


def test_an_old_graph_passes_the_checker_in_every_precision(tmp_path: Path) -> None:
    """Before IR 4 constants had to be inputs as well, which those of quantizers are not."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="p")]
    path = saved(tmp_path / "a.onnx", nodes, {"w": normal(8, 8)}, ["n", 8], ["n", 8], ir=3)
    graph = folded(path)
    assert [value.name for value in graph.graph.input] == ["x"]
    for precision in ("fp32", "int8", "int4"):
        lowered = lower(graph, {"p": precision})
        onnx.checker.check_model(lowered)
        assert lowered.ir_version >= 4
        assert ran(lowered, normal(3, 8)).shape == (3, 8)


def test_weights_that_are_computed_from_others_are_folded_where_nothing_is_copied(tmp_path: Path) -> None:
    """Standardised weights: what reads them in between is gone after folding."""
    nodes = [
        helper.make_node("ReduceMean", ["w"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["w", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceSum", ["squares"], ["norm"], keepdims=1),
        helper.make_node("Div", ["centred", "norm"], ["standard"]),
        helper.make_node("MatMul", ["x", "standard"], ["y"], name="p"),
    ]
    graph = folded(saved(tmp_path / "a.onnx", nodes, {"w": normal(8, 8)}, ["n", 8], ["n", 8]))
    assert [node.op_type for node in graph.graph.node] == ["MatMul"]
    assert list(linear_nodes(graph)) == ["p"]


@pytest.mark.parametrize("kind", ["anchors", "same", "batched", "transposed"])
def test_a_constant_that_the_graph_gives_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    """Nobody knows what is done with it: it may be what is multiplied by, or nothing may read it."""
    weights = {
        "w": normal(1, 16, 16) if kind == "batched" else normal(16, 16),
        "a": normal(1, 4, 4),
        "v": normal(16, 8),
    }
    match kind:
        case "same":
            first = [helper.make_node("Gemm", ["x", "w"], ["h"], name="first", transB=1, alpha=2.0)]
        case "batched":
            first = [helper.make_node("MatMul", ["x", "w"], ["b"], name="first")]
            first.append(helper.make_node("Squeeze", ["b"], ["h"]))
        case "transposed":
            first = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0])]
            first.append(helper.make_node("MatMul", ["x", "t"], ["h"], name="first"))
        case _:
            first = [helper.make_node("MatMul", ["x", "w"], ["h"], name="first")]
    second = helper.make_node("MatMul", ["h", "v"], ["y"], name="second")
    path = saved(tmp_path / "a.onnx", [*first, second], weights, ["n", 16], ["n", 8])
    model = onnx.load(path)
    name = "a" if kind == "anchors" else "w"
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, weights[name].shape))
    onnx.save(model, path)
    graph = folded(path)
    given = {one: product.why for one, product in products(graph).items()}
    why = "its weights are an output of the graph, too, in floating point"
    assert given == {"first": None if kind == "anchors" else why, "second": None}
    x = normal(3, 16, seed=1)
    for one in (graph, lower(graph, dict.fromkeys(linear_nodes(graph), LOW))):
        y, same = session(one.SerializeToString(), Device()).run(None, {"x": x})
        np.testing.assert_array_equal(same, weights[name])
        np.testing.assert_allclose(y, ran(path, x), rtol=1e-4 if one is graph else 1, atol=1e-3 if one is graph else 8)
