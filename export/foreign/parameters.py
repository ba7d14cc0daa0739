"""How many parameters an ONNX file has, in floating point or quantized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from onnx import NodeProto

from wb.export.foreign.stored import FLOATING, Constant, Scope, constants, families
from wb.export.lowering.scopes import apart

# Operator -> where it reads numbers that are no weights: scales and zero points, or settings of the operator itself.
ASIDE: Mapping[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "MatMulInteger": (2, 3),
    "ConvInteger": (2, 3),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "DynamicQuantizeMatMul": (2, 3),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "MatMulNBits": (2, 3, 4),
    "MatMulBnb4": (2,),
    "GatherBlockQuantized": (2, 3),
    "QAttention": (3, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QEmbedLayerNormalization": tuple(range(8, 18)),
    "MulInteger": (1, 3),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QLinearReduceMean"), (1, 2, 3, 4)),
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), (1, 2, 3, 4)),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "OneHot": (1, 2),
}
# Operator -> where it reads weights that may be whole numbers.
WHOLE: Mapping[str, tuple[int, ...]] = {
    "DequantizeLinear": (0,),
    "MatMulInteger": (0, 1),
    "ConvInteger": (1,),
    "QLinearMatMul": (0, 3),
    "QLinearConv": (3, 8),
    "MatMulIntegerToFloat": (1,),
    "DynamicQuantizeMatMul": (1,),
    "DynamicQuantizeLSTM": (1, 2),
    "MatMulNBits": (1,),
    "MatMulBnb4": (1,),
    "GatherBlockQuantized": (0,),
    "QAttention": (1,),
    "QGemm": (3, 6),
    "QEmbedLayerNormalization": (2, 3, 4, 5, 6),
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
    "MulInteger": (0, 2),
}
SMOOTHING = "nncf_smooth_quant_scale"  # in a name: by what NNCF divides weights
MOVING = (
    "Identity",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Cast",
    "Gather",
)  # what they move is first


def count_parameters(model: onnx.ModelProto) -> int:
    """The numbers that the graph's operators read as weights, wherever the file stores them, each once.

    They are in initializers (of a sparse one what is stored), `Constant` nodes, branches, bodies and functions. A quantized
    weight is one parameter, also where several are packed into a byte; its scales and zero points are none, nor what NNCF
    smooths activations with. A constant without axes (the 0.5 of a Gelu) is arithmetic, and one of whole numbers a shape
    or an index, unless an operator on quantized numbers reads it.

    Limits: what a function is given as an argument has no known reader; of an operator that is not known here every constant in
    floating point counts. What a graph makes up as it runs (`ConstantOfShape`) does not.
    """
    return sum(_of_family(family) for family in families(apart(model)))


def _of_family(family: Sequence[Scope]) -> int:
    stored = {constant.name: constant for scope in family for constant in constants(scope)}
    makers = {name: node for scope in family for node in scope.nodes for name in node.output}
    whole: dict[str, int] = {}  # weights in whole numbers, and how many they are
    aside: set[str] = set()
    for node in (node for scope in family for node in scope.nodes):
        for name in _at(node, WHOLE.get(node.op_type, ())):
            source = _source(name, makers)
            if source in stored:
                whole[source] = max(whole.get(source, 0), _unpacked(node, stored[source]))
        others = (*_at(node, ASIDE.get(node.op_type, ())), *_scales(node, makers))
        aside.update(_source(name, makers) for name in others)
    floating = (
        one for one in stored.values() if one.type in FLOATING and one.axes and one.name not in aside | set(whole)
    )
    return sum(whole.values()) + sum(one.numbers for one in floating)


def _at(node: NodeProto, places: tuple[int, ...]) -> list[str]:
    return [node.input[i] for i in places if i < len(node.input) and node.input[i]]


def _scales(node: NodeProto, makers: Mapping[str, NodeProto]) -> list[str]:
    """The factors of a product with a scale that is found as the graph runs: scales of weights, for ONNX Runtime's quantizer.

    And those that NNCF smooths activations with, known by their name: the gain of a norm stands in the same places.
    """
    if node.op_type != "Mul" or len(node.input) != 2:
        return []
    a, b = node.input
    return [other for one, other in ((a, b), (b, a)) if _is_scale(one, makers) or SMOOTHING in other]


def _is_scale(name: str, makers: Mapping[str, NodeProto]) -> bool:
    maker = makers.get(name)
    return maker is not None and maker.op_type == "DynamicQuantizeLinear" and name in maker.output[1:2]


def _source(name: str, makers: Mapping[str, NodeProto]) -> str:
    """The constant behind operators that only move numbers."""
    seen = set()
    while (maker := makers.get(name)) is not None and maker.op_type in MOVING and maker.input and name not in seen:
        seen.add(name)
        name = maker.input[0]
    return name


def _unpacked(node: NodeProto, stored: Constant) -> int:
    """How many weights of the node are in what is stored: several may be packed into one byte."""
    sizes: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    most = stored.numbers * 8 // max(1, sizes.get("bits", 4))
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        return min(most, math.prod(sizes.get(name, 0) for name in ("K", "N")))  # blocks are filled up
    packed = node.op_type == "GatherBlockQuantized" and stored.type == onnx.TensorProto.UINT8
    return int(most) if packed else stored.numbers
