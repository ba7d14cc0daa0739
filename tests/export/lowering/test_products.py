"""Multiply-accumulates: a product of ones with ones, without padding, sums up to their number; so the runtime is the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from tests.export.foreign_graphs import FLOAT, constant, floats, loop, model, save
from wb.export.counting.graph import Counts, count_graph
from wb.hardware.device import Device, session

node = helper.make_node
MS = {"domain": "com.microsoft"}


def counted(made: onnx.ModelProto, folder: Path, batch: int = 1) -> Counts:
    return count_graph(save(made, folder / "a.onnx"), batch)


BYTES = [node("Cast", ["x"], ["u"], to=TensorProto.UINT8)]
SUMMED = {
    "MatMul": ([node("MatMul", ["x", "w"], ["y"])], [2, 5, 4], [floats("w", 4, 3)]),
    "vectors": ([node("MatMul", ["x", "w"], ["y"])], [4], [floats("w", 4)]),
    "Gemm": ([node("Gemm", ["x", "w"], ["y"])], [2, 4], [floats("w", 4, 3)]),
    "Gemm of transposed": ([node("Gemm", ["x", "w"], ["y"], transA=1, transB=1)], [4, 2], [floats("w", 3, 4)]),
    "Conv": ([node("Conv", ["x", "w"], ["y"], strides=[2, 1])], [2, 3, 8, 8], [floats("w", 5, 3, 2, 3)]),
    "grouped Conv": ([node("Conv", ["x", "w"], ["y"], group=2)], [2, 4, 8, 8], [floats("w", 6, 2, 3, 3)]),
    "ConvTranspose": ([node("ConvTranspose", ["x", "w"], ["y"], group=2)], [2, 4, 3, 3], [floats("w", 4, 3, 2, 2)]),
    "Einsum": ([node("Einsum", ["x", "w"], ["y"], equation="bhqd, hkd -> bhqk")], [2, 3, 4, 5], [floats("w", 3, 6, 5)]),
    "FusedMatMul": ([node("FusedMatMul", ["x", "w"], ["y"], **MS)], [2, 5, 4], [floats("w", 2, 4, 3)]),
    "FusedConv": (
        [node("FusedConv", ["x", "w"], ["y"], activation="Relu", **MS)],
        [2, 3, 4, 4],
        [floats("w", 5, 3, 2, 2)],
    ),
    "MatMulInteger": (
        [*BYTES, node("MatMulInteger", ["u", "w"], ["i"]), node("Cast", ["i"], ["y"], to=FLOAT)],
        [2, 4],
        [constant("w", np.ones((4, 3)), np.uint8)],
    ),
    "ConvInteger": (
        [*BYTES, node("ConvInteger", ["u", "w"], ["i"]), node("Cast", ["i"], ["y"], to=FLOAT)],
        [2, 3, 4, 4],
        [constant("w", np.ones((5, 3, 2, 2)), np.uint8)],
    ),
    "QLinearMatMul": (
        [
            *BYTES,
            node("QLinearMatMul", ["u", "s", "z", "w", "s", "z", "s", "z"], ["i"]),
            node("Cast", ["i"], ["y"], to=FLOAT),
        ],
        [2, 4],
        [constant("w", np.ones((4, 3)), np.uint8), floats("s"), constant("z", 0, np.uint8)],
    ),
    "QLinearConv": (
        [
            *BYTES,
            node("QLinearConv", ["u", "s", "z", "w", "s", "z", "s", "z"], ["i"]),
            node("Cast", ["i"], ["y"], to=FLOAT),
        ],
        [2, 3, 4, 4],
        [constant("w", np.ones((5, 3, 2, 2)), np.uint8), floats("s"), constant("z", 0, np.uint8)],
    ),
    "MatMulNBits": (
        [node("MatMulNBits", ["x", "w", "s"], ["y"], K=32, N=3, bits=4, block_size=16, **MS)],
        [2, 32],
        [constant("w", np.full((3, 2, 8), 0x99), np.uint8), floats("s", 6)],
    ),
}


@pytest.mark.parametrize(("nodes", "shape", "stored"), SUMMED.values(), ids=SUMMED)
def test_a_product_has_as_many_as_the_runtime_sums_up(
    tmp_path: Path, nodes: list[NodeProto], shape: list[int], stored: list[TensorProto]
) -> None:
    made = model(nodes, stored, {"x": shape})
    (given,) = session(made.SerializeToString(), Device()).run(None, {"x": np.ones(shape, np.float32)})
    assert counted(made, tmp_path).readings["macs"].value == np.sum(given)


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_recurrent_networks_count_every_gate_of_every_step(tmp_path: Path, kind: str, gates: int) -> None:
    stored = [floats("w", 2, gates * 6, 5), floats("r", 2, gates * 6, 6)]
    made = model(
        [node(kind, ["x", "w", "r"], ["y"], hidden_size=6, direction="bidirectional")], stored, {"x": [7, 3, 5]}
    )
    assert counted(made, tmp_path).readings["macs"].value == 2 * 7 * 3 * gates * 6 * (5 + 6)


def _branches(*widths: int) -> list[NodeProto]:
    def branch(name: str, width: int) -> onnx.GraphProto:
        stored = [floats(f"{name} w", 4, width)] if width else []
        inside = node("MatMul", ["x", f"{name} w"], [name]) if width else node("Neg", ["x"], [name])
        return helper.make_graph([inside], name, [], [helper.make_tensor_value_info(name, FLOAT, None)], stored)

    one, other = (branch(name, width) for name, width in zip(("one", "other"), widths, strict=True))
    return [node("If", ["go"], ["y"], then_branch=one, else_branch=other)]


GO = constant("go", True, np.bool_)
LENGTHS = constant("lengths", [1], np.int32)
UNCOUNTED: dict[str, tuple[Sequence[NodeProto], Sequence[TensorProto], list[int | str], str]] = {
    "branches": (_branches(3, 0), [GO], ["n", 4], "If has products inside, and which of its branches runs"),
    "attention": (
        [node("Attention", ["x", "x", "x"], ["y"], q_num_heads=1, kv_num_heads=1)],
        [],
        [1, 3, 4],
        "Attention is an",
    ),
    "unknown": (
        [node("Mystery", ["x"], ["y"], name="m", domain="nobody")],
        [],
        [1, 4],
        "Mystery 'm' of nobody is an operator",
    ),
    "learned": (
        [node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml")],
        [],
        [1, 4],
        "LinearRegressor of ai.onnx.ml is",
    ),
    "layout": (
        [node("NhwcConv", ["x", "w"], ["y"], **MS)],
        [floats("w", 1, 1, 1, 1)],
        [1, 2, 2, 1],
        "NhwcConv of com.microsoft",
    ),
    "lengths": (
        [node("LSTM", ["x", "w", "r", "", "lengths"], ["y"], hidden_size=1)],
        [floats("w", 1, 4, 2), floats("r", 1, 4, 1), LENGTHS],
        [3, 1, 2],
        "LSTM takes sequences of different lengths",
    ),
    "three": (
        [node("Einsum", ["x", "x", "x"], ["y"], equation="ij,jk,kl->il")],
        [],
        [4, 4],
        "Einsum 'ij,jk,kl->il' is not",
    ),
    "summed": ([node("Einsum", ["x", "x"], ["y"], equation="ij,kl->il")], [], [4, 4], "only products of two"),
    "behind": (
        [node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["f"], to=FLOAT), node("MatMul", ["f", "w"], ["y"])],
        [floats("w", 3, 3)],
        [1, 4],
        "the shape of 'f' at MatMul does not follow",
    ),
}


@pytest.mark.parametrize(("nodes", "stored", "shape", "words"), UNCOUNTED.values(), ids=UNCOUNTED)
def test_what_cannot_be_counted_gives_no_number_and_says_why(
    tmp_path: Path, nodes: list[NodeProto], stored: list[TensorProto], shape: list[int | str], words: str
) -> None:
    also = [node("MatMul", ["also", "also"], ["more"])]  # what is counted beside it would be too low a sum
    found = counted(model([*also, *nodes], [*stored, floats("also", 4, 4)], {"x": shape}), tmp_path)
    assert "macs" not in found.readings
    assert words in found.missing["macs"]


def test_of_loops_only_those_without_products_are_counted(tmp_path: Path) -> None:
    assert counted(loop(2**62), tmp_path).readings["macs"].value == 0
    product = loop(2**62, [node("MatMul", ["before", "w"], ["after"])], [floats("w", 4, 4)])
    assert "how often its body runs" in counted(product, tmp_path).missing["macs"]


def test_equal_branches_are_counted(tmp_path: Path) -> None:
    assert counted(model(_branches(3, 3), [GO], {"x": [1, 4]}), tmp_path).readings["macs"].value == 12
    assert counted(model(_branches(0, 0), [GO], {"x": [1, 4]}), tmp_path).readings["macs"].value == 0


@pytest.mark.parametrize("op", ["Gelu", "BiasGelu", "SkipLayerNormalization"])
def test_shapes_go_through_operators_of_the_runtime(tmp_path: Path, op: str) -> None:
    inputs = {"Gelu": ["x"], "BiasGelu": ["x", "b"], "SkipLayerNormalization": ["x", "x", "b"]}[op]
    nodes = [node(op, inputs, ["h"], **MS), node("MatMul", ["h", "w"], ["y"])]
    made = model(nodes, [floats("b", 4), floats("w", 4, 3)], {"x": [1, 5, 4]})
    assert counted(made, tmp_path).readings["macs"].value == 5 * 4 * 3
