"""Small ONNX files made by hand, as others export them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
IMPORTS = [("", 20), ("com.microsoft", 1), ("ai.onnx.ml", 3)]


def floats(name: str, *shape: int) -> TensorProto:
    """A constant of ones."""
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def constant(name: str, values: ArrayLike, kind: type[np.generic] = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def model(
    nodes: Sequence[NodeProto],
    stored: Sequence[TensorProto] = (),
    taken: Mapping[str, Sequence[int | str]] | None = None,
    given: str = "y",
    kind: int = FLOAT,
    out: int = FLOAT,
) -> onnx.ModelProto:
    """A graph that takes inputs of these shapes, by default `x` (n, 4), and gives `given`, whose shape it does not state."""
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in (taken or {"x": ["n", 4]}).items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info(given, out, None)], list(stored))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*one) for one in IMPORTS], ir_version=9)


def linear(rows: int = 4, columns: int = 3) -> onnx.ModelProto:
    """x (n, rows) times a matrix of ones."""
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [floats("w", rows, columns)], {"x": ["n", rows]})


def loop(trips: int, nodes: Sequence[NodeProto] | None = None, stored: Sequence[TensorProto] = ()) -> onnx.ModelProto:
    """Adds one to x (n, 4) so many times, or does what `nodes` do from `before` to `after`."""
    inside = [helper.make_node("Identity", ["on"], ["still"])]
    inside += nodes or [helper.make_node("Add", ["before", "one"], ["after"])]
    body = helper.make_graph(
        inside,
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", FLOAT, None),
        ],
        list(stored),
    )
    constants = [constant("trips", trips), constant("go", True, np.bool_), constant("one", 1, np.float32)]
    return model([helper.make_node("Loop", ["trips", "go", "x"], ["y"], body=body)], constants)


def save(made: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def save_beside(made: onnx.ModelProto, path: Path, weights: str = "weights.bin") -> Path:
    """With its weights in a file beside."""
    onnx.save_model(made, path, save_as_external_data=True, location=weights, size_threshold=0)
    return path
