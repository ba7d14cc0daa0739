"""Packing binary and ternary weights, exactly, into the operands of ONNX Runtime's 2-bit product (`MatMulNBits`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from wb.core.errors import BadOption

BITS_BLOCKS = (16, 32, 64, 128, 256)  # block sizes that the 2-bit product accepts


def pack(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    """Replaces each named MatMul, whose weights are -a, 0 or a within each column, by a product with 2-bit weights."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    packed: dict[str, onnx.NodeProto] = {}  # by the weights' name, because products may share weights
    for name in names:
        node = nodes[name]
        weight = node.input[1]
        if weight not in packed:
            packed[weight] = _two_bits(graph, name, tensors[weight])
        product = onnx.NodeProto()
        product.CopyFrom(packed[weight])
        product.name, product.input[0], product.output[0] = name, node.input[0], node.output[0]
        node.CopyFrom(product)
    ONNXModel(graph).clean_initializers()
    if not any(entry.domain == "com.microsoft" for entry in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _two_bits(graph: onnx.ModelProto, name: str, tensor: onnx.TensorProto) -> onnx.NodeProto:
    """A 2-bit product with the weights of `tensor`, whose operands are added to `graph`. Errors name the node `name`."""
    weight = numpy_helper.to_array(tensor)
    rows, columns = weight.shape
    block = min(BITS_BLOCKS, key=lambda size: (-(-rows // size) * (size // 4 + 4), size))
    codes, scales = _codes(weight, name)
    blocks = -(-rows // block)
    padded = np.full((columns, blocks * block), 2, dtype=np.uint8)  # the code of zero
    padded[:, :rows] = codes.T
    four = padded.reshape(columns, blocks, block // 4, 4)
    bits = (four << np.array([0, 2, 4, 6], dtype=np.uint8)).sum(axis=3, dtype=np.uint8)
    operands = [
        numpy_helper.from_array(bits, f"{tensor.name}_Q2"),
        numpy_helper.from_array(np.repeat(scales[:, None], blocks, axis=1), f"{tensor.name}_scales"),
    ]
    graph.graph.initializer.extend(operands)
    attributes = {"K": rows, "N": columns, "bits": 2, "block_size": block}
    inputs = ["", *(operand.name for operand in operands)]
    return helper.make_node("MatMulNBits", inputs, [""], domain="com.microsoft", **attributes)


def _codes(weight: NDArray[Any], name: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes 1, 2, 3 for the values -a, 0, a of `weight`, and a: (K, N) -> (K, N), (N,). Raises `BadOption` for other values."""
    scales = np.abs(weight).max(axis=0)
    codes = np.rint(weight / np.where(scales > 0, scales, 1)).astype(np.int8)
    if not np.allclose(codes * scales, weight, rtol=1e-5, atol=0):
        raise BadOption(f"the weights of {name} are not binary or ternary; train them with `wb binarize`")
    return (codes + 2).astype(np.uint8), scales.astype(np.float32)
