"""Shape inference: the shape of every tensor of a graph in one run, as far as the file determines it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import NodeProto, TensorProto, helper, shape_inference

from wb.export.foreign.stored import graphs, inputs, scopes

Shape = Sequence[int]

WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
STATED = 64  # largest number of values in a constant that may be a shape; the values of larger ones do not matter
# Operator of ONNX Runtime, unknown to ONNX -> standard operator with the same output shape, and the inputs that it gets.
STANDS_IN = {
    **dict.fromkeys(("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "BiasAdd", "RotaryEmbedding"), ("Identity", (0,))),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), ("Identity", (0,))),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), ("Identity", (0,))),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), ("Add", (0, 3))),
    **dict.fromkeys(("FusedMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), ("MatMul", (0, 1))),
    "MatMulNBits": ("MatMul", (0,)),
    "FusedConv": ("Conv", (0, 1)),
}


def shapes_of(given: onnx.ModelProto, batch: int = 1) -> dict[str, Shape]:
    """Tensor name -> shape, where known, also inside branches and bodies.

    `given` must have unique names (`wb.export.lowering.scopes.unique_names`) and no functions. A dynamic first axis of an
    input is `batch`, as is every axis with the same symbol. Shapes that the file states of intermediate tensors are ignored:
    they may be those of another batch.

    Raises:
        onnx.shape_inference.InferenceError: the operators contradict each other.
    """
    model = onnx.ModelProto()
    model.CopyFrom(given)
    _fix_batch(model, batch)
    for scope in scopes(model):
        for tensor in scope.tensors:
            if math.prod(tensor.dims) > STATED:
                tensor.ClearField("raw_data")
        for node in scope.nodes:
            if node.domain == "com.microsoft" and node.op_type in STANDS_IN:
                _stand_in(node, model.graph)
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    found: dict[str, Shape] = {}
    for graph in graphs(inferred.graph):
        found |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for value in [*graph.value_info, *graph.input, *graph.output]:
            kind = value.type.tensor_type
            if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
                found.setdefault(value.name, tuple(dim.dim_value for dim in kind.shape.dim))
    return found


def _fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Sets the batch size of the inputs, and removes the stated shapes of outputs and intermediate values."""
    for value in inputs(model):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            symbol = dims[0].dim_param
            for i, dim in enumerate(dims):
                if i == 0 or (symbol and dim.dim_param == symbol):
                    dim.dim_value = batch
    for graph in graphs(model.graph):
        del graph.value_info[:]
        for value in graph.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")


def _stand_in(node: NodeProto, graph: onnx.GraphProto) -> None:
    """Replaces a node of ONNX Runtime by a standard one with the same output shape, unless it transposes its inputs."""
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    if any(sizes.get(name) for name in ("transA", "transB", "transBatchA", "transBatchB")):
        return
    name, places = STANDS_IN[node.op_type]
    kept = [node.input[i] for i in places if i < len(node.input)]
    if node.op_type == "MatMulNBits":
        kept.append(f"{node.output[0]} weights")
        graph.initializer.append(
            TensorProto(name=kept[-1], data_type=TensorProto.FLOAT, dims=[sizes.get("K", 0), sizes.get("N", 0)])
        )
    stands = helper.make_node(name, kept, [node.output[0]])
    stands.attribute.extend(one for one in node.attribute if name == "Conv" and one.name in WINDOW)
    node.CopyFrom(stands)
