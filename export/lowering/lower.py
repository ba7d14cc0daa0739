"""Lowering: quantizing the weights of an exported graph to 8, 4 or 2 bits, and finding the node of each weight.

ONNX Runtime quantizes: `quantize_dynamic` to int8, `MatMulNBitsQuantizer` to int4. Binary and ternary weights are trained as
such; they are only packed, exactly, into the operands of the runtime's 2-bit product (`MatMulNBits`).
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
from onnx import numpy_helper
from torch import nn

from wb.core.errors import BadOption, Unsupported, reason
from wb.core.precision import BITS, TRAINED
from wb.core.records import Precision
from wb.core.system.files import scratch
from wb.export.lowering import scopes
from wb.export.lowering.fold import folded
from wb.export.lowering.pack import pack
from wb.export.lowering.products import Product, linear_nodes, lowered_nodes, products, unshare_weights
from wb.export.lowering.tied import BLOCK, continues, lower_tied, tied_tables
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import OperatorModule
from wb.models.merges.base import MergeModule
from wb.models.stems.base import StemModule

Policy = Mapping[str, Precision]  # node name -> precision of its weights


def nodes_of(graph: onnx.ModelProto, module: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Parameter -> name of its node in `graph`, which `folded` returned; `names` are parameters in order of execution.

    Nodes are found by the values of their weights, so the names that an exporter gives them do not matter.

    Raises:
        Unsupported: no node has the weights of a parameter, because the exporter did something unexpected.
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
        # Parameters with equal values match nodes in order of execution; an exporter may merge equal weights into one.
        found[name] = same.pop(0) if len(same) > 1 else same[0]
    return found


def lower_file(path: Path, module: nn.Module, kept: Mapping[str, Precision]) -> None:
    """Rewrites the graph of `module` at `path` with weights in the precisions of `kept`.

    `kept` maps parameters, in order of execution, to precisions. Raises as `folded`, `nodes_of` and `lower` do.
    """
    graph = folded(path)
    nodes = nodes_of(graph, module, kept)
    onnx.save(lower(graph, {nodes[name]: precision for name, precision in kept.items() if precision != "fp32"}), path)


def lower(graph: onnx.ModelProto, policy: Policy) -> onnx.ModelProto:
    """A copy of `graph`, which `folded` returned, with the weights of nodes in the precisions of `policy`; metadata stay.

    The result is checked: every node of `policy` has its precision, and all others are in floating point.

    Raises:
        BadOption: a node does not exist, has no constant weights, or cannot have that precision.
        Unsupported: a quantizer fails on the graph, or left a node unchanged.
    """
    wanted = {name: precision for name, precision in policy.items() if precision != "fp32"}
    _check(products(graph), policy)
    lowered = onnx.ModelProto()
    lowered.CopyFrom(graph)
    tied = tied_tables(graph.graph)
    by_precision = {
        precision: names
        for precision in wanted.values()
        if (names := [name for name, p in wanted.items() if p == precision and name not in tied])
    }
    if "int8" in by_precision:  # first: its quantizer cannot infer types after a product with fewer bits
        lowered = _int8(lowered, by_precision["int8"])
    if "int4" in by_precision:
        lowered = _int4(lowered, by_precision["int4"])
    low = [name for name, precision in wanted.items() if precision in TRAINED and name not in tied]
    if low:
        pack(lowered, low)
    lower_tied(lowered, {name: precision for name, precision in wanted.items() if name in tied})
    del lowered.metadata_props[:]
    lowered.metadata_props.extend(graph.metadata_props)
    _verify(lowered, wanted)
    return lowered


def _check(known: Mapping[str, Product], policy: Policy) -> None:
    unknown = sorted(set(policy) - set(known))
    if unknown:
        raise BadOption(f"no layer with weights is named {', '.join(unknown)}; this graph has {', '.join(known)}")
    wrong = [name for name, precision in policy.items() if precision not in known[name].options]
    convolutions = [name for name in wrong if known[name].node.op_type == "Conv" and known[name].why is None]
    if convolutions:
        raise BadOption(f"{', '.join(convolutions)}: convolutions can be kept in int8 or fp32 only")
    for name in wrong:
        options = ", ".join(known[name].options)
        why = f" ({known[name].why})" if known[name].why else ""
        raise BadOption(f"{name} cannot be kept in {policy[name]}{why}; it takes {options}")


def _verify(lowered: onnx.ModelProto, wanted: Policy) -> None:
    """Raises `Unsupported` unless exactly the nodes of `wanted` are quantized, each to its precision."""
    found = lowered_nodes(lowered)
    for name, precision in wanted.items():
        if BITS[found.get(name, "fp32")] != BITS[precision]:
            missed = [n for n, p in wanted.items() if BITS[found.get(n, "fp32")] != BITS[p]]
            raise Unsupported(
                f"ONNX Runtime's quantizers left {', '.join(missed)} in {found.get(name, 'fp32')} instead of {precision}, and "
                "say nothing of it; --keep these, or try another policy"
            )
    more = sorted(set(found) - set(wanted))
    if more:
        raise Unsupported(f"ONNX Runtime's quantizers took {', '.join(more)}, which were to stay; try another policy")


def _int8(graph: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    apart = onnx.ModelProto()
    apart.CopyFrom(graph)
    unshare_weights(apart.graph, names)
    with scratch() as folder, _silent():
        path = folder / "int8.onnx"
        try:
            quantize_dynamic(
                apart,
                path,
                op_types_to_quantize=["MatMul", "Conv"],
                nodes_to_quantize=list(names),
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True, "EnableSubgraph": True},
            )
        except Exception as error:  # its exceptions have no common base class
            raise Unsupported(f"ONNX Runtime's quantizer cannot take this graph: {reason(error)}") from error
        lowered = onnx.load(path)
    _one_zero_point(lowered, apart, names)
    del lowered.graph.value_info[:]  # the inferred types only make the file larger
    lowered.graph.value_info.extend(graph.graph.value_info)
    return lowered


def _one_zero_point(lowered: onnx.ModelProto, graph: onnx.ModelProto, names: Sequence[str]) -> None:
    """Gives weights with more than two dimensions a single zero point; the runtime refuses one per column."""
    tensors = {tensor.name: tensor for tensor in lowered.graph.initializer}
    known = products(graph)
    shapes = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    for name in names:
        weight = known[name].weight
        if known[name].node.op_type == "MatMul" and len(shapes[weight]) > 2:
            zeros = tensors[f"{weight}_zero_point"]
            if np.any(numpy_helper.to_array(zeros)):
                raise Unsupported(f"ONNX Runtime's quantizer gave {name} a zero point; --keep it")
            zeros.CopyFrom(numpy_helper.from_array(np.zeros((), np.int8), zeros.name))


def _int4(graph: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    others = [
        node.name for _, node in scopes.nodes(graph.graph) if node.name not in names
    ]  # `nodes_to_include` excludes nothing
    with _silent():
        try:
            # Activations in 8 bits, block by block, make a token of a network of 19M parameters 1.7 times as fast (measured).
            level = 4 if continues(graph.graph) else 0
            quantizer = MatMulNBitsQuantizer(
                graph, bits=4, block_size=BLOCK, is_symmetric=True, accuracy_level=level, nodes_to_exclude=others
            )
            quantizer.process()
        except Exception as error:
            raise Unsupported(f"ONNX Runtime's 4-bit quantizer cannot take this graph: {reason(error)}") from error
    result: onnx.ModelProto = quantizer.model.model
    return result


def _as_operand(module: nn.Module, name: str) -> NDArray[Any]:
    """A parameter in the form that the graph stores: convolutions unchanged, others as a matrix (inputs, outputs)."""
    weight = module.get_parameter(name).detach()
    owner, _, local = name.rpartition(".")
    operator = module.get_submodule(owner)
    looked_up = isinstance(operator, StemModule) and local in operator.looked_up  # a head that is tied to it turns it
    if looked_up or (weight.dim() == 4 and not _of_units(operator, local)):
        return weight.numpy()
    if isinstance(operator, BatchNormed):  # a 1x1 convolution
        return weight[:, :, None, None].numpy()
    rows = operator.outputs[local] if isinstance(operator, OperatorModule | MergeModule) else 1
    matrix = weight.flatten(0, rows - 1).flatten(1) if weight.dim() > 2 else weight
    return np.ascontiguousarray(matrix.numpy().T)


def _of_units(operator: nn.Module, local: str) -> bool:
    """Whether all dimensions of a weight count units: those of a kernel do not."""
    last = operator.axes[local][-1] if isinstance(operator, OperatorModule) and local in operator.axes else None
    return last is not None and last.role != "side"


def _digest(array: NDArray[Any]) -> str:
    positive = np.ascontiguousarray(array) + 0.0  # -0 becomes 0: exporters merge constants that differ only there
    return hashlib.sha256(str(array.shape).encode() + positive.tobytes()).hexdigest()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silences logging: the quantizers log advice that was already followed, on the root logger."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
