"""Outputs one example at a time, and the measures of their error against slow formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.special import rel_entr, softmax

from tests.compress.ptq.graphs import inputs, relu_graph, subject
from wb.compress.ptq.outputs import compare, outputs
from wb.core.errors import BadArtefact, BadData
from wb.hardware.device import Device

DEVICE = Device()


def draw(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_examples_do_not_change_each_other(tmp_path: Path) -> None:
    """Ranges of activations are found as the graph runs, so that in one batch they would."""
    graph = subject().lowered(dict.fromkeys(subject().groups, "int8"))
    found = outputs(graph, inputs(), DEVICE)
    (images,) = inputs().values()
    order = np.random.default_rng(0).permutation(len(images))
    assert found.shape == (16, 3)
    assert np.array_equal(outputs(graph, {"pixel_values": images[order]}, DEVICE), found[order])
    onnx.save(graph, tmp_path / "graph.onnx")
    assert np.array_equal(outputs(tmp_path / "graph.onnx", inputs(), DEVICE), found)


def test_a_fixed_batch_is_run_at_once() -> None:
    graph, x = relu_graph({"x": [4, 2]}), draw(10, 2)
    assert np.array_equal(outputs(graph, {"x": x}, DEVICE), np.maximum(x[:8], 0))
    with pytest.raises(BadData, match="takes 4 at once"):
        outputs(graph, {"x": x[:3]}, DEVICE)


def test_logits_come_before_other_outputs() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["hidden"]), helper.make_node("Relu", ["x"], ["logits"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "hidden", "logits")]
    graph = helper.make_graph(nodes, "two", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    assert np.array_equal(outputs(model, {"x": draw(3, 2)}, DEVICE), np.maximum(draw(3, 2), 0))


def test_graphs_that_fail() -> None:
    graph = relu_graph({"x": ["n", "m"]})
    graph.graph.node[0].op_type = "Det"  # of what is not square
    with pytest.raises(BadArtefact, match="fails on its inputs"):
        outputs(graph, {"x": draw(3, 2)}, DEVICE)
    with pytest.raises(BadArtefact, match=r"takes x .*, and is given x .*, y "):
        outputs(graph, {"x": draw(3, 2), "y": draw(3, 2)}, DEVICE)
    graph = relu_graph({"x": ["n", 2]})
    graph.graph.node[0].op_type = "Log"
    with pytest.raises(BadArtefact, match="not finite"):
        outputs(graph, {"x": np.full((3, 2), -1, np.float32)}, DEVICE)


# -------------------------------------------------------------------------------------------------------------- error


def test_class_scores_against_formulas() -> None:
    a, b = 3 * draw(20, 5), 3 * draw(20, 5, seed=1)
    error = compare(a, b)
    p, q = softmax(a.astype(float), axis=1), softmax(b.astype(float), axis=1)
    assert error.kind == "KL divergence"
    assert error.divergence == pytest.approx(rel_entr(p, q).sum(axis=1).mean(), rel=1e-9)
    assert error.agreement == np.mean([row.argmax() == other.argmax() for row, other in zip(a, b, strict=True)])
    assert error.sqnr == pytest.approx(20 * math.log10(np.linalg.norm(a) / np.linalg.norm(a - b)), rel=1e-5)


def test_what_does_not_change_classes_is_no_divergence() -> None:
    a = draw(20, 5)
    error = compare(a, a + np.float32(2))
    assert error.divergence < 1e-12
    assert error.agreement == 1
    assert error.sqnr < 0


@pytest.mark.parametrize("shape", [(20, 1), (20,), (4, 3, 2)])
def test_other_outputs(shape: tuple[int, ...]) -> None:
    a = draw(*shape)
    error = compare(a, a * np.float32(1.1))
    assert error.kind == "relative squared error"
    assert error.agreement is None
    assert error.divergence == pytest.approx(0.01, rel=1e-4)
    assert error.sqnr == pytest.approx(20, abs=1e-3)


def test_the_ends() -> None:
    zero, one = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    assert compare(one, one).sqnr == math.inf
    assert compare(one, one).divergence == 0
    assert compare(zero, draw(4, 3)).sqnr == -math.inf
    far = np.array([[1e4, -1e4]], np.float32)
    assert compare(far, -far).divergence == pytest.approx(2e4)  # no overflow
    with pytest.raises(BadData, match=r"\[4, 3\] to compare with \[5, 3\]"):
        compare(draw(5, 3), one)
