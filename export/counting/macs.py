"""Multiply-accumulates of a graph: those of its convolutions and matrix products, computed from shapes.

Every operator is counted (`PRODUCTS`), known to have no products, or unknown. A graph with an unknown operator is not counted at
all, because the number would be too low. By the usual convention, softmax, norms, pooling and other elementwise arithmetic do
not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import onnx
from onnx import NodeProto

from wb.export.foreign.shapes import Shape
from wb.export.foreign.stored import bodies, named

OPSET = 28  # standard operators introduced in later opsets are unknown
# Standard operators that contain products, but are not counted.
UNCOUNTED = frozenset(
    {
        *(
            "Attention",
            "LinearAttention",
            "CausalConvWithState",
            "DeformConv",
            "DFT",
            "STFT",
            "Det",
            "AffineGrid",
            "SequenceMap",
        ),
    }
)
# Operators outside the standard that contain no products.
FREE = {
    "com.microsoft": frozenset(
        {
            *(
                "Gelu",
                "FastGelu",
                "QuickGelu",
                "BiasGelu",
                "BiasAdd",
                "BiasSoftmax",
                "BiasSplitGelu",
                "BiasDropout",
                "ScaledSiLU",
            ),
            *(
                "SkipLayerNormalization",
                "SkipSimplifiedLayerNormalization",
                "EmbedLayerNormalization",
                "GatedAdd",
                "GatedRMSNorm",
            ),
            *("QEmbedLayerNormalization", "GroupNorm", "SkipGroupNorm", "RotaryEmbedding", "GemmaRotaryEmbedding"),
            *(
                "QuantizeLinear",
                "DequantizeLinear",
                "GatherBlockQuantized",
                "QLinearAdd",
                "QLinearMul",
                "QLinearConcat",
            ),
            *("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool"),
            *(
                "QLinearReduceMean",
                "QLinearWhere",
                "ReduceSumInteger",
                "MulInteger",
                "GatherND",
                "Pad",
                "Range",
                "Trilu",
            ),
            *("ExpandDims", "Unique", "CropAndResize", "GridSample", "NhwcMaxPool", "MaxpoolWithMask", "IsAllFinite"),
            *("RemovePadding", "RestorePadding", "RelativePositionBias"),
        }
    ),
    "ai.onnx.ml": frozenset(
        {
            *("ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer"),
            *("Imputer", "LabelEncoder", "Normalizer", "OneHotEncoder", "Scaler", "ZipMap"),
        }
    ),
    "": frozenset({"SimplifiedLayerNormalization"}),  # ONNX Runtime's own, in the standard domain
}

Size = Callable[[str], Shape]


class UncountedError(Exception):
    """The MACs of a graph cannot be counted; the message says why, for the table of results."""


def count_macs(nodes: Iterable[NodeProto], shapes: Mapping[str, Shape]) -> int:
    """The multiply-accumulates of one run of `nodes`, which have passed `check_operators` and call no functions.

    Raises:
        UncountedError: a shape is unknown, or the branches of a node differ in MACs.
    """
    return sum(_macs(node, shapes) for node in nodes)


def _macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    called = _called(node)

    def size(name: str) -> Shape:
        if name not in shapes:
            raise UncountedError(f"the shape of {named(name)} at {called} does not follow from the file")
        return shapes[name]

    if inside := bodies(node):
        counts = {count_macs(body.node, shapes) for body in inside}
        if len(counts) > 1:
            raise UncountedError(
                f"{called} has products inside, and which of its branches runs is not known before it does"
            )
        return counts.pop()
    count = PRODUCTS.get((_domain(node), node.op_type))
    if count is not None:
        try:
            return count(node, size)
        except (IndexError, KeyError) as error:
            raise UncountedError(f"{called} lacks an input or has one with too few axes") from error
    return 0


def check_operators(nodes: Iterable[NodeProto]) -> None:
    """Raises `UncountedError` for unknown operators and for loops with products; needs no shapes."""
    for node in nodes:
        inside = bodies(node)
        for body in inside:
            check_operators(body.node)
        if inside and node.op_type != "If" and _has_products(inside):
            raise UncountedError(
                f"{_called(node)} has products inside, and how often its body runs is not known before it does"
            )
        domain = _domain(node)
        if not inside and (domain, node.op_type) not in PRODUCTS and not _free(domain, node.op_type):
            of = f" of {domain[:40]}" if domain else ""
            raise UncountedError(f"{_called(node)}{of} is an operator whose products are not counted")


def _has_products(graphs: Iterable[onnx.GraphProto]) -> bool:
    nodes = [node for graph in graphs for node in graph.node]
    return any((_domain(node), node.op_type) in PRODUCTS or _has_products(bodies(node)) for node in nodes)


def _domain(node: NodeProto) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


@cache
def _free(domain: str, name: str) -> bool:
    """Whether the operator is known to contain no products."""
    if name in FREE.get(domain, ()):
        return True
    if domain or name in UNCOUNTED:
        return False
    try:
        onnx.defs.get_schema(name, OPSET, "")
    except onnx.defs.SchemaError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ products


def _called(node: NodeProto) -> str:
    return f"{node.op_type[:40]} {named(node.name)}" if node.name else node.op_type[:40]


def _attributes(node: NodeProto) -> dict[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def _product(node: NodeProto, size: Size) -> int:
    """Matrix product, batched or not: each number of the output takes as many MACs as a row of the first operand is long."""
    set_ = _attributes(node)
    if set_.get("transBatchA") or set_.get("transBatchB"):
        raise UncountedError(f"{_called(node)} transposes its batch, which is not counted")
    first = size(node.input[0])
    return math.prod(size(node.output[0])) * (first[-2] if set_.get("transA") else first[-1])


def _packed(node: NodeProto, size: Size) -> int:
    """Product with packed weights; the attribute K is the length of a row of the first operand."""
    return math.prod(size(node.output[0])) * _attributes(node)["K"]


def _convolution(place: int) -> Callable[[NodeProto, Size], int]:
    """Convolution with weights (out, in / groups, ...) at input `place`: each number of the output sums over all other axes."""

    def count(node: NodeProto, size: Size) -> int:
        return math.prod(size(node.output[0])) * math.prod(size(node.input[place])[1:])

    return count


def _transposed(node: NodeProto, size: Size) -> int:
    """Transposed convolution with weights (in, out / groups, ...): each input number is multiplied by one row of them."""
    return math.prod(size(node.input[0])) * math.prod(size(node.input[1])[1:])


def _recurrent(node: NodeProto, size: Size) -> int:
    """Recurrent layer: input (steps, batch, features) or (batch, steps, features), weights (directions, all gates, ...)."""
    if len(node.input) > 4 and node.input[4]:
        raise UncountedError(f"{_called(node)} takes sequences of different lengths")
    steps, batch, _ = size(node.input[0])
    return steps * batch * sum(math.prod(size(node.input[place])) for place in (1, 2))


def _einsum(node: NodeProto, size: Size) -> int:
    """Einsum of two operands: one MAC for each combination of the indices."""
    equation = next(
        (attribute.s.decode(errors="replace") for attribute in node.attribute if attribute.name == "equation"), ""
    )
    terms, _, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) == 1:
        return 0
    letters = set("".join(operands))
    alone = any(letter not in result and sum(letter in term for term in operands) == 1 for letter in letters)
    repeated = any(len(set(term)) < len(term) for term in operands)
    if len(operands) != 2 or "->" not in equation or "." in equation or alone or repeated:
        raise UncountedError(
            f"{_called(node)} {named(equation)} is not counted: only products of two with all indices named are"
        )
    sizes: dict[str, int] = {}
    for term, name in zip(operands, node.input, strict=False):
        for letter, length in zip(term, size(name), strict=False):
            sizes[letter] = max(length, sizes.get(letter, 1))
    return math.prod(sizes[letter] for letter in letters)


PRODUCTS: Mapping[tuple[str, str], Callable[[NodeProto, Size], int]] = {
    **{("", name): _product for name in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")},
    **{("", name): _convolution(1) for name in ("Conv", "ConvInteger")},
    ("", "QLinearConv"): _convolution(3),
    ("", "ConvTranspose"): _transposed,
    **{("", name): _recurrent for name in ("RNN", "GRU", "LSTM")},
    ("", "Einsum"): _einsum,
    **{
        ("com.microsoft", name): _product
        for name in ("FusedMatMul", "FusedGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")
    },
    ("com.microsoft", "FusedConv"): _convolution(1),
    ("com.microsoft", "MatMulNBits"): _packed,
}
