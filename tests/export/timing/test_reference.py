"""The reference must stay what it is: every ratio ever reported is a multiple of it."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import numpy_helper

from wb.export.timing.reference import overhead_graph, reference_graph, transformer_graph
from wb.hardware.device import example_inputs, parse_device, session


def digest(graph: bytes) -> str:
    """Of operators, wiring and weights, independent of how protobuf writes them."""
    model = onnx.load_from_string(graph)
    hash_ = hashlib.sha256()
    for node in model.graph.node:
        hash_.update(repr((node.op_type, list(node.input), list(node.output))).encode())
    for weight in model.graph.initializer:
        hash_.update(numpy_helper.to_array(weight).astype("<f4").tobytes())
    return hash_.hexdigest()[:16]


def test_the_reference_never_changes() -> None:
    assert digest(reference_graph()) == "e1b0b9465928d0ac"


def test_graphs_are_valid_and_finite() -> None:
    for graph in (reference_graph(), overhead_graph(), transformer_graph(5, 8, 2)):
        onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
        loaded = session(graph, parse_device())
        made = example_inputs(loaded, batch=2)
        (out,) = loaded.run(None, made)
        assert out.shape == made["x"].shape
        assert np.isfinite(out).all()


def test_the_overhead_graph_computes_nothing() -> None:
    loaded = session(overhead_graph(), parse_device())
    made = example_inputs(loaded)
    assert loaded.run(None, made)[0] == made["x"]


def test_size_is_as_asked_for() -> None:
    weights = onnx.load_from_string(transformer_graph(5, 8, 3)).graph.initializer
    assert sum(int(np.prod(weight.dims)) for weight in weights) == 3 * (4 * 8 * 8 + 2 * 4 * 8 * 8 + 4 * 8)
