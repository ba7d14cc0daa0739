"""Parameters of files in floating point and quantized, wherever they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.export.foreign_graphs import FLOAT, constant, floats, linear, loop, model
from wb.export.foreign.parameters import count_parameters

node = helper.make_node


def of(nodes: Sequence[NodeProto], *stored: TensorProto) -> int:
    return count_parameters(model(nodes, stored))


def test_a_weight_counts_wherever_it_is_stored() -> None:
    weight = floats("w", 4, 3)
    product = node("MatMul", ["x", "w"], ["y"])
    inside = helper.make_graph([product], "then", [], [helper.make_tensor_value_info("y", FLOAT, None)], [weight])
    outside = helper.make_graph([product], "then", [], [helper.make_tensor_value_info("y", FLOAT, None)])
    branches = {"then_branch": inside, "else_branch": outside}
    everywhere = [
        model([product], [weight]),
        model([node("Constant", [], ["w"], value=weight), product]),
        model([node("Constant", [], ["w"], value_floats=[1.0] * 12), product]),
        model([node("If", ["c"], ["z"], **branches)], [constant("c", True, np.bool_)], given="z"),
        loop(3, [node("MatMul", ["before", "w"], ["after"])], [weight]),
        _in_a_function(weight),
        _sparse(12),
    ]
    assert [count_parameters(made) for made in everywhere] == [12] * len(everywhere)


def _in_a_function(weight: TensorProto) -> onnx.ModelProto:
    made = model([node("F", ["x"], ["a"], domain="d"), node("F", ["a"], ["y"], domain="d")])
    nodes = [node("Constant", [], ["w"], value=weight), node("MatMul", ["v", "w"], ["r"])]
    made.functions.append(helper.make_function("d", "F", ["v"], ["r"], nodes, [helper.make_opsetid("", 20)]))
    return made


def _sparse(numbers: int) -> onnx.ModelProto:
    values, places = floats("w", numbers), constant("", np.arange(numbers))
    made = model([node("MatMul", ["x", "w"], ["y"])])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 30]))
    return made


def test_a_shared_weight_counts_once() -> None:
    assert of([node("Gemm", ["x", "w"], ["a"]), node("Gemm", ["a", "w"], ["y"])], floats("w", 4, 4)) == 16


def test_shapes_indices_and_arithmetic_are_no_parameters() -> None:
    nodes = [
        node("Reshape", ["x", "shape"], ["a"]),
        node("Mul", ["a", "half"], ["b"]),
        node("Resize", ["b", "", "factors"], ["c"]),
        node("Constant", [], ["two"], value_float=2.0),
        node("Pow", ["c", "two"], ["y"]),
    ]
    assert of(nodes, constant("shape", [1, 1, 2, 2]), floats("half"), floats("factors", 4)) == 0


EIGHT = constant("w", np.ones((4, 3)), np.int8)
SCALE, ZERO, VECTOR = floats("s"), constant("z", 0, np.int8), floats("vector", 3)
ZEROS = constant("zeros", np.zeros(3), np.int8)
DYNAMIC = node("DynamicQuantizeLinear", ["x"], ["u", "us", "uz"])
MOVED = [node("Identity", ["vector"], ["scales"]), node("Transpose", ["w"], ["turned"])]
QUANTIZED = {
    "DequantizeLinear": [
        node("DequantizeLinear", ["w", "vector", "zeros"], ["f"], axis=1),
        node("MatMul", ["x", "f"], ["y"]),
    ],
    "moved first": [
        *MOVED,
        node("DequantizeLinear", ["turned", "scales"], ["f"], axis=0),
        node("Gemm", ["x", "f"], ["y"], transB=1),
    ],
    "MatMulInteger": [
        DYNAMIC,
        node("MatMulInteger", ["u", "w", "uz", "zeros"], ["i"]),
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("Mul", ["us", "vector"], ["scale"]),
        node("Mul", ["f", "scale"], ["y"]),
    ],
    "QLinearMatMul": [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearMatMul", ["q", "s", "z", "w", "vector", "zeros", "s", "z"], ["o"]),
        node("DequantizeLinear", ["o", "s", "z"], ["y"]),
    ],
    "DynamicQuantizeMatMul": [
        node("DynamicQuantizeMatMul", ["x", "w", "vector", "zeros"], ["y"], domain="com.microsoft")
    ],
    "MatMulIntegerToFloat": [
        DYNAMIC,
        node("MatMulIntegerToFloat", ["u", "w", "us", "vector", "uz", "zeros"], ["y"], domain="com.microsoft"),
    ],
}


@pytest.mark.parametrize("nodes", QUANTIZED.values(), ids=QUANTIZED)
def test_a_quantized_weight_is_one_parameter_and_its_scale_is_none(nodes: list[NodeProto]) -> None:
    assert of([node("MatMul", ["x", "float"], ["y"])], floats("float", 4, 3)) == 12
    assert of(nodes, EIGHT, SCALE, ZERO, VECTOR, ZEROS) == 12


def test_smoothing_factors_are_no_parameters_and_gains_of_norms_are() -> None:
    factor = floats("p/nncf_smooth_quant_scale", 4)
    nodes = [
        node("Mul", ["x", "gain"], ["n"]),
        node("QuantizeLinear", ["n", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Mul", ["d", factor.name], ["m"]),
        node("QuantizeLinear", ["m", "s", "z"], ["o"]),
        node("DequantizeLinear", ["o", "s", "z"], ["e"]),
        node("MatMulInteger", ["o", "w"], ["i"]),
        node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    assert of(nodes, EIGHT, SCALE, ZERO, floats("gain", 4), factor) == 12 + 4


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_weights_count_as_what_they_stand_for(bits: int) -> None:
    packed = constant("w", np.zeros((3, 2, 16 * bits // 8)), np.uint8)  # 20 rows in blocks of 16, filled up

    def product(rows: int) -> NodeProto:
        sizes: dict[str, Any] = {"K": rows, "N": 3, "bits": bits, "block_size": 16}
        return node("MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", **sizes)

    assert of([product(20)], packed, floats("scales", 6)) == 60
    assert of([product(2**40)], packed, floats("scales", 6)) == 96  # no more than are there


def test_a_quantized_table_is_one_parameter_for_each_number() -> None:
    looked = [node("Gather", ["w", "x"], ["rows"]), node("DequantizeLinear", ["rows", "s", "z"], ["y"])]
    assert of(looked, EIGHT, SCALE, ZERO) == 12
    blocks = node("GatherBlockQuantized", ["packed", "x", "vector"], ["y"], domain="com.microsoft", bits=4)
    assert of([blocks], constant("packed", np.zeros((4, 8)), np.uint8), VECTOR) == 64


def test_half_precision_counts_like_single() -> None:
    made = linear()
    half = numpy_helper.from_array(np.ones((4, 3), np.float16), "w")
    made.graph.initializer[0].CopyFrom(half)
    assert count_parameters(made) == 12
