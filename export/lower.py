"""Precision in an exported graph: which nodes are whose weights, and putting them into 8, 4 or 2 bits.

Quantization is ONNX Runtime's: `quantize_dynamic` for int8, `MatMulNBitsQuantizer` for int4. Binary and ternary weights are
what they are already, and only packed into the operands of the runtime's 2-bit product (`MatMulNBits`), exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from wb.core.errors import BadOption, Unsupported, reason
from wb.core.files import scratch
from wb.core.precision import TRAINED
from wb.core.records import Precision
from wb.models.operators._base import OperatorModule, output_dims

BLOCK = 32  # weights that share a scale in int4
BITS_BLOCKS = (16, 32, 64, 128, 256)  # what the 2-bit product takes

Policy = Mapping[str, Precision]  # node name -> what its weights are kept in


def folded(path: Path) -> onnx.ModelProto:
    """The graph at `path` with constants folded, by the runtime itself, and every Gemm split into MatMul and Add.

    Raises:
        Unsupported: the runtime cannot load it.
    """
    import onnxruntime as ort
    from onnxruntime.quantization.onnx_model import ONNXModel

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with scratch() as folder:
        options.optimized_model_filepath = str(folder / "folded.onnx")
        try:
            # Merging equal nodes would leave weights without a node of their own.
            merging = ["CommonSubexpressionElimination"]
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=merging)
        except Exception as error:  # the runtime's exceptions have no common base class
            raise Unsupported(
                f"the runtime cannot load {path} ({reason(error)}); give a graph that `wb measure` can time"
            ) from error
        graph = onnx.load(options.optimized_model_filepath)
    original = onnx.load(path, load_external_data=False)
    graph.ir_version = original.ir_version
    # The runtime lists every domain that it knows; what it introduced itself has to stay.
    declared = {entry.domain for entry in original.opset_import}
    introduced = {node.domain for node in graph.graph.node} - declared
    imports = [*original.opset_import, *(entry for entry in graph.opset_import if entry.domain in introduced)]
    del graph.opset_import[:]
    graph.opset_import.extend(imports)
    model = ONNXModel(graph)
    model.replace_gemm_with_matmul()
    model.clean_initializers()  # the weights that it transposed
    _name_nodes(graph)
    return graph


def linear_nodes(graph: onnx.ModelProto) -> dict[str, str]:
    """Every matrix product and convolution with constant weights: node name -> name of its weights, in order."""
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    found = {}
    for node in graph.graph.node:
        weight = node.input[1] if node.op_type in ("MatMul", "Conv") else ""
        if weight in constants and (node.op_type == "Conv" or len(constants[weight].dims) == 2):
            found[node.name] = weight
    return found


def nodes_of(graph: onnx.ModelProto, module: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """The node of each of the module's parameters `names`, given in order of execution, in its graph (as `folded` gives it).

    They are found by the values of the weights, so that it does not matter how an exporter names its nodes.

    Raises:
        Unsupported: weights that no node has: the exporter did something that is not known here.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes: dict[str, list[str]] = {}
    for node, weight in linear_nodes(graph).items():
        nodes.setdefault(_digest(numpy_helper.to_array(tensors[weight])), []).append(node)
    found: dict[str, str] = {}
    for name in names:
        same = nodes.get(_digest(_as_operand(module, name)), [])
        if not same:
            raise Unsupported(f"{name} is nowhere in the exported graph; try another --exporter, and report this")
        # Equal weights come in order of execution; of two that read the same, an exporter may keep one.
        found[name] = same.pop(0) if len(same) > 1 else same[0]
    return found


def lower_file(path: Path, module: nn.Module, kept: Mapping[str, Precision]) -> None:
    """Rewrites the graph of `module` at `path` with its weights in the precisions that `kept` says, in order of execution.

    Raises: as `folded`, `nodes_of` and `lower` do.
    """
    graph = folded(path)
    nodes = nodes_of(graph, module, kept)
    onnx.save(lower(graph, {nodes[name]: precision for name, precision in kept.items() if precision != "fp32"}), path)


def lower(graph: onnx.ModelProto, policy: Policy) -> onnx.ModelProto:
    """A copy of `graph` (as `folded` gives it) with the named nodes' weights in other precisions, its metadata kept.

    Raises:
        BadOption: a node that is not there or has no constant weights, or a convolution in less than 8 bits.
        Unsupported: the quantizer cannot take the graph.
    """
    known = linear_nodes(graph)
    unknown = sorted(set(policy) - set(known))
    if unknown:
        raise BadOption(f"no layer with weights is named {', '.join(unknown)}; this graph has {', '.join(known)}")
    wanted = {precision: [name for name, p in policy.items() if p == precision] for precision in policy.values()}
    metadata = list(graph.metadata_props)
    low = [name for name, precision in policy.items() if precision in TRAINED]
    _refuse_convolutions(graph, [*wanted.get("int4", ()), *low])
    lowered = onnx.ModelProto()
    lowered.CopyFrom(graph)
    if wanted.get("int8"):  # first: behind a product with few bits it could not infer the types
        lowered = _int8(lowered, wanted["int8"])
    if wanted.get("int4"):
        lowered = _int4(lowered, wanted["int4"])
    if low:
        _pack(lowered, low)
    del lowered.metadata_props[:]
    lowered.metadata_props.extend(metadata)
    return lowered


def _int8(graph: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with scratch() as folder, _silent():
        path = folder / "int8.onnx"
        try:
            quantize_dynamic(
                graph,
                path,
                op_types_to_quantize=["MatMul", "Conv"],
                nodes_to_quantize=list(names),
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        except Exception as error:  # it raises whatever it meets
            raise Unsupported(f"ONNX Runtime's quantizer cannot take this graph: {reason(error)}") from error
        lowered = onnx.load(path)
    del lowered.graph.value_info[:]  # the types that it inferred, which only make the file larger
    lowered.graph.value_info.extend(graph.graph.value_info)
    return lowered


def _int4(graph: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    others = [node.name for node in graph.graph.node if node.name not in names]  # `nodes_to_include` excludes nothing
    with _silent():
        try:
            quantizer = MatMulNBitsQuantizer(
                graph, bits=4, block_size=BLOCK, is_symmetric=True, nodes_to_exclude=others
            )
            quantizer.process()
        except Exception as error:
            raise Unsupported(f"ONNX Runtime's 4-bit quantizer cannot take this graph: {reason(error)}") from error
    result: onnx.ModelProto = quantizer.model.model
    return result


def _pack(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    """Replaces each named product, whose weights are -a, 0 or a in each column, by one with 2-bit weights."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    packed: dict[str, onnx.NodeProto] = {}  # by the weights' name, for several products may share theirs
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
    """The product that reads `tensor` in 2 bits; adds those to `graph`. `name` is the node that an error names."""
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
    """Codes 1, 2, 3 for -a, 0, a of `weight` (K, N), and a (N,). Raises `BadOption` where a column has other values."""
    scales = np.abs(weight).max(axis=0)
    codes = np.rint(weight / np.where(scales > 0, scales, 1)).astype(np.int8)
    if not np.allclose(codes * scales, weight, rtol=1e-5, atol=0):
        raise BadOption(f"the weights of {name} are not binary or ternary; train them with `wb binarize`")
    return (codes + 2).astype(np.uint8), scales.astype(np.float32)


def _as_operand(module: nn.Module, name: str) -> NDArray[Any]:
    """A parameter as the graph has it: convolutions as they are, the rest as a matrix (inputs, outputs)."""
    weight = module.get_parameter(name).detach()
    if weight.dim() == 4:
        return weight.numpy()
    owner, _, local = name.rpartition(".")
    operator = module.get_submodule(owner)
    rows = output_dims(operator, local) if isinstance(operator, OperatorModule) else 1
    matrix = weight.flatten(0, rows - 1).flatten(1) if weight.dim() > 2 else weight
    return np.ascontiguousarray(matrix.numpy().T)


def _digest(array: NDArray[Any]) -> str:
    positive = np.ascontiguousarray(array) + 0.0  # exporters merge constants that differ in the sign of a zero
    return hashlib.sha256(str(array.shape).encode() + positive.tobytes()).hexdigest()


def _refuse_convolutions(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    convolutions = [node.name for node in graph.graph.node if node.name in names and node.op_type == "Conv"]
    if convolutions:
        raise BadOption(f"{', '.join(convolutions)}: convolutions can be kept in int8 or fp32 only")


def _name_nodes(graph: onnx.ModelProto) -> None:
    """A name for every node that has none, since quantizers address nodes by name."""
    taken = {node.name for node in graph.graph.node}
    for i, node in enumerate(graph.graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{i}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The quantizers advise what was done already, on the root logger."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
