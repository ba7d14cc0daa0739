"""Counting the parameters of an ONNX file, in floating point or quantized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from onnx import NodeProto

from wb.export.foreign.stored import FLOATING, Constant, Scope, constants, families
from wb.export.lowering.scopes import unique_names

# Operator -> inputs with numbers that are not weights: scales and zero points, or settings of the operator.
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
# Operator -> inputs with weights that may be integers.
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
SMOOTHING = "nncf_smooth_quant_scale"  # part of the name of NNCF's smoothing factors
MOVING = (
    "Identity",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Cast",
    "Gather",
)  # their first input is the one that they move


def count_parameters(model: onnx.ModelProto) -> int:
    """The number of weights that the graph's operators read, each counted once.

    Weights are stored in initializers (of sparse ones, the stored values count), `Constant` nodes, branches, bodies and
    functions. A quantized weight is one parameter, even if several are packed into a byte. Its scales and zero points do not
    count, nor do NNCF's smoothing factors. A scalar constant (the 0.5 of a Gelu) is arithmetic, and a constant of integers
    is a shape or an index, unless an operator on quantized numbers reads it.

    Limits: constants passed to a function as arguments have no known reader. Every floating-point constant of an unknown
    operator counts. Values that the graph creates as it runs (`ConstantOfShape`) do not count.
    """
    return sum(_of_family(family) for family in families(unique_names(model)))


def _of_family(family: Sequence[Scope]) -> int:
    stored = {constant.name: constant for scope in family for constant in constants(scope)}
    makers = {name: node for scope in family for node in scope.nodes for name in node.output}
    whole: dict[str, int] = {}  # name of an integer constant -> its number of weights
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
    """The constant factors of a Mul node that are scales, not weights.

    They are weight scales, multiplied by a scale computed at run time (ONNX Runtime's quantizer), or NNCF's smoothing
    factors. The latter are recognised by name, because the gain of a norm stands in the same place.
    """
    if node.op_type != "Mul" or len(node.input) != 2:
        return []
    a, b = node.input
    return [other for one, other in ((a, b), (b, a)) if _is_scale(one, makers) or SMOOTHING in other]


def _is_scale(name: str, makers: Mapping[str, NodeProto]) -> bool:
    maker = makers.get(name)
    return maker is not None and maker.op_type == "DynamicQuantizeLinear" and name in maker.output[1:2]


def _source(name: str, makers: Mapping[str, NodeProto]) -> str:
    """The name of the value behind operators that only move or select numbers."""
    seen = set()
    while (maker := makers.get(name)) is not None and maker.op_type in MOVING and maker.input and name not in seen:
        seen.add(name)
        name = maker.input[0]
    return name


def _unpacked(node: NodeProto, stored: Constant) -> int:
    """The number of weights in a stored constant of the node; several may be packed into one byte."""
    sizes: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    most = stored.numbers * 8 // max(1, sizes.get("bits", 4))
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        return min(most, math.prod(sizes.get(name, 0) for name in ("K", "N")))  # blocks are padded
    packed = node.op_type == "GatherBlockQuantized" and stored.type == onnx.TensorProto.UINT8
    return int(most) if packed else stored.numbers
