"""Products: the nodes of a graph that multiply by constant weights, and the precisions that each can have."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from wb.core.precision import CONVOLUTIONS, PRECISIONS
from wb.core.records import Precision
from wb.export.foreign.stored import graphs
from wb.export.lowering import scopes
from wb.export.lowering.tied import in_blocks, tied_tables

# Operator that multiplies by weights -> inputs that may be the weights; None for an operator with any number of inputs.
OPERANDS: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), (0, 1)),
    **dict.fromkeys(("Conv", "ConvTranspose", "FusedConv", "DeformConv", "Attention"), (1,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
    "Einsum": None,
}
# Operators on quantized numbers; a graph with one of them is quantized already.
QUANTIZED = frozenset(
    {
        *("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger"),
        *("ConvInteger", "MatMulIntegerToFloat", "MatMulNBits", "QLinearMatMul", "QLinearConv", "QAttention", "QGemm"),
    }
)
SHARED = "its weights are read by {}, too, which needs them in floating point"
GIVEN = "its weights are an output of the graph, too, in floating point"
COMPUTED = "its weights are computed as it runs"
LEFT = "its weights are the left operand"
VECTOR = "its weights are a vector"
INNER_CONVOLUTION = "no quantizer takes convolutions inside branches"
_THROUGH = ("Transpose", "Reshape", "Identity", "QuantizeLinear", "DequantizeLinear")
_EIGHT = (TensorProto.INT8, TensorProto.UINT8)
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Product:
    """A node that multiplies by constant weights.

    `weight` is the name of its largest constant. `numbers` counts the numbers in all its constants. `kind` is their
    `onnx.TensorProto.DataType`. `options` are the precisions that ONNX Runtime's quantizers can produce, fp32 last; if fp32
    is the only one, `why` says why.
    """

    node: NodeProto = field(repr=False)
    weight: str
    numbers: int
    kind: int
    options: tuple[Precision, ...]
    why: str | None = None
    tied: bool = False  # its weights are a table that tokens are looked up in, too (`wb.export.lowering.tied`)

    @property
    def convolution(self) -> bool:
        """Whether the node is a convolution."""
        return self.node.op_type in ("Conv", "FusedConv", "ConvTranspose", "DeformConv")


def products(graph: onnx.ModelProto) -> dict[str, Product]:
    """Node name -> product, for every product with constant floating-point weights at any depth; outer graphs first, in order.

    Limits: constants of inner graphs and nodes without a name are ignored; `wb.export.lowering.fold.folded` leaves none.
    """
    constants = _Constants.of(graph.graph)
    found = {}
    for one, node in scopes.nodes(graph.graph):
        product = _product(node, constants, outer=one is graph.graph)
        if product is not None:
            found[node.name] = product
    for name, table in tied_tables(graph.graph).items():
        options: tuple[Precision, ...] = (
            ("int4", "int8", "fp32") if in_blocks(constants.dims(table)) else ("int8", "fp32")
        )
        found[name] = replace(found[name], options=options, why=None, tied=True)
    return _without_shared(found, constants)


def linear_nodes(graph: onnx.ModelProto) -> dict[str, str]:
    """Node name -> name of its weights, in order, for the products whose weights can be quantized."""
    return {name: product.weight for name, product in products(graph).items() if product.why is None}


def lowered_nodes(graph: onnx.ModelProto) -> dict[str, Precision]:
    """Node name -> precision of the products with quantized constant weights, under the names that they had before.

    Recognises the nodes of ONNX Runtime's quantizers and of `pack.pack`, and weights behind a DequantizeLinear, which NNCF
    writes.
    """
    kinds = {tensor.name: tensor.data_type for one in graphs(graph.graph) for tensor in one.initializer}
    found: dict[str, Precision] = {}
    origin = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Transpose"}
    for node, origins in _origins(graph.graph):
        if (
            node.op_type in ("MatMulInteger", "ConvInteger")
            and kinds.get(origin.get(node.input[1], node.input[1])) in _EIGHT
        ):
            found[node.name.removesuffix("_quant")] = "int8"
        elif node.op_type == "MatMulNBits":
            bits = next(attribute.i for attribute in node.attribute if attribute.name == "bits")
            found[node.name.removesuffix("_Q4")] = "int4" if bits == 4 else "w2"
        elif any(passed and kinds.get(name) in _EIGHT for name, passed in origins):
            found[node.name] = "int8"
    return found


def rounded_nodes(graph: onnx.ModelProto) -> set[str]:
    """The products whose weights are floating-point constants that the graph rounds to 8 bits at run time (fake quantization)."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    every = _origins(graph.graph)
    return {
        node.name for node, origins in every if any(passed and kinds.get(name) in _FLOATS for name, passed in origins)
    }


def _origins(graph: GraphProto) -> Iterator[tuple[NodeProto, list[tuple[str, bool]]]]:
    """Yields each node with, for each operand that may be weights, the operand's origin and whether it was dequantized.

    The origin is the value before nodes that only move or (de)quantize it.
    """
    makers = {name: node for _, node in scopes.nodes(graph) for name in node.output}
    for _, node in scopes.nodes(graph):
        origins = []
        for place in _places(node):
            name, passed = node.input[place], False
            maker = makers.get(name)
            while maker is not None and maker.op_type in _THROUGH:
                passed |= maker.op_type == "DequantizeLinear"
                name = maker.input[0]
                maker = makers.get(name)
            origins.append((name, passed))
        yield node, origins


def unshare_weights(graph: GraphProto, names: Collection[str]) -> None:
    """Gives the named products their own copy of weights that other nodes read too, or that are an output of the graph.

    Otherwise a quantizer that rounds the weights of one node would round them for all readers.
    """
    tensors, taken, given = scopes.constants(graph), scopes.names(graph), scopes.output_names(graph)
    for weight, readers in scopes.readers(graph).items():
        chosen = [reader for reader in readers if reader.node.name in names and reader.place in _places(reader.node)]
        if weight in tensors and chosen and (len(chosen) < len(readers) or weight in given):
            copy = graph.initializer.add()
            copy.CopyFrom(tensors[weight])
            copy.name = scopes.unused(weight, taken)
            for reader in chosen:
                reader.node.input[reader.place] = copy.name


def loose(graph: onnx.ModelProto) -> int:
    """The number of floating-point constants that belong to no product: biases, norms, embeddings."""
    every: int = sum(math.prod(one.dims) for one in graph.graph.initializer if one.data_type in _FLOATS)
    return every - sum({product.weight: product.numbers for product in products(graph).values()}.values())


@dataclass(frozen=True)
class _Constants:
    """The constant values of a graph, their readers, and the graph's outputs.

    `bare` are the stored constants. `made` maps each value computed from constants alone to the largest constant behind it.
    """

    bare: Mapping[str, TensorProto]
    made: Mapping[str, TensorProto]
    readers: Mapping[str, Sequence[scopes.Reader]]
    given: Collection[str]

    @classmethod
    def of(cls, graph: GraphProto) -> _Constants:
        bare = scopes.constants(graph)
        made: dict[str, TensorProto] = {}
        for node in graph.node:  # in topological order
            behind = [bare.get(name) or made.get(name) for name in node.input]
            tensors = [tensor for tensor in behind if tensor is not None]
            if tensors and len(tensors) == len(behind) and node.op_type not in QUANTIZED:
                made.update(dict.fromkeys(node.output, max(tensors, key=lambda tensor: math.prod(tensor.dims))))
        return cls(bare, made, scopes.readers(graph), scopes.output_names(graph))

    def dims(self, name: str) -> tuple[int, ...]:
        """The dimensions of a stored constant."""
        return tuple(self.bare[name].dims)

    def __getitem__(self, name: str) -> TensorProto | None:
        return self.bare.get(name) or self.made.get(name)

    def others(self, tensor: str, but: Collection[str]) -> str | None:
        """The reason why `tensor` must stay in floating point: a reader not named in `but`, or it is an output; else None."""
        waiting = [tensor]
        while waiting:
            name = waiting.pop(0)
            if name in self.given:
                return GIVEN
            for reader in self.readers.get(name, ()):
                if reader.node.output and set(reader.node.output) <= self.made.keys():
                    waiting.extend(reader.node.output)
                elif reader.node.name not in but:
                    return SHARED.format(reader.node.op_type)
        return None


def _places(node: NodeProto) -> list[int]:
    """The indices of the inputs that may be weights; none for an operator that is not a product."""
    places = OPERANDS.get(node.op_type, ())
    return [i for i, name in enumerate(node.input) if name and (places is None or i in places)]


def _product(node: NodeProto, constants: _Constants, *, outer: bool) -> Product | None:
    given = {i: constants[node.input[i]] for i in _places(node)}
    weights = {i: tensor for i, tensor in given.items() if tensor is not None and tensor.data_type in _FLOATS}
    if not weights:
        return None
    place, tensor = max(weights.items(), key=lambda item: math.prod(item[1].dims))
    numbers = sum(math.prod(one.dims) for one in weights.values())
    why = _why(node, place, tensor, constants, outer=outer)
    options: tuple[Precision, ...] = ("fp32",) if why else _options(node, tuple(tensor.dims), outer=outer)
    return Product(node, tensor.name, numbers, tensor.data_type, options, why)


def _why(node: NodeProto, place: int, tensor: TensorProto, constants: _Constants, *, outer: bool) -> str | None:
    """Why no quantizer of ONNX Runtime accepts the weights of `node`; None if one does."""
    if node.op_type in ("MatMul", "Gemm", "FusedMatMul") and place == 0:
        return LEFT
    if node.input[place] not in constants.bare:  # folding could not make it a constant
        return constants.others(tensor.name, [node.name]) or COMPUTED
    if node.op_type not in ("MatMul", "Conv") or node.domain:
        return f"{node.op_type} has no kernel in fewer bits"
    if len(tensor.dims) < 2:
        return VECTOR
    return INNER_CONVOLUTION if node.op_type == "Conv" and not outer else None


def _options(node: NodeProto, dims: tuple[int, ...], *, outer: bool) -> tuple[Precision, ...]:
    if node.op_type == "Conv":
        return CONVOLUTIONS
    if len(dims) == 2 and outer:
        return PRECISIONS
    return ("int8", "fp32") if len(dims) > 2 else ("int4", "int8", "fp32")


def _without_shared(found: Mapping[str, Product], constants: _Constants) -> dict[str, Product]:
    """Removes the options of products whose weights another node needs in floating point: quantizing would add a copy."""
    able = {name for name, product in found.items() if product.why is None and not product.tied}
    shared: dict[str, str] = {}
    while True:
        others = {name: constants.others(found[name].weight, able) for name in able}
        more = {name: why for name, why in others.items() if why is not None}
        if not more:
            return {n: replace(p, options=("fp32",), why=shared[n]) if n in shared else p for n, p in found.items()}
        able -= more.keys()
        shared |= more
