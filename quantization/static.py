"""Static int8: NNCF's post-training quantization of a graph, with ranges of activations found on calibration inputs.

Source: NNCF's `nncf.quantize` for ONNX with `ModelType.TRANSFORMER`, which leaves softmax, norms and the like in floating point
and treats the products inside attention as such models need; weights per channel.
Differs: groups can be kept in floating point; examples are run one at a time.
Limits: what else NNCF leaves in floating point is its choice, hence the graph says which groups are in 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Collection, Iterator
from types import ModuleType

import numpy as np
import onnx

from wb.core.errors import BadOption, Unsupported, WbError, reason
from wb.hardware.device import Device
from wb.quantization.calibration import Inputs, batch_of, first, number_of
from wb.quantization.outputs import outputs
from wb.quantization.subject import Subject

_EIGHT = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
# NNCF counts its uses through openvino-telemetry unless these are set when it is imported: the first leaves its
# reports out, the second keeps openvino-telemetry from writing an identity into the user's folder.
_NO_TELEMETRY = {"NNCF_CI": "1", "CI": "true"}


def static_int8(
    subject: Subject, inputs: Inputs, keep: Collection[str] = ()
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph with weights and activations in 8 bits, and the groups whose weights really are; those of `keep` are not.

    Ranges are those of `inputs`. The graph's metadata are kept.

    Raises:
        BadOption: a group to keep that there is not, or none is left.
        Unsupported: NNCF cannot take the graph, the result does not run, or its outputs are not finite.
    """
    unknown = sorted(set(keep) - set(subject.groups))
    if unknown:
        raise BadOption(f"no group named {', '.join(unknown)}; there are {', '.join(subject.groups)}")
    if set(keep) >= set(subject.groups):
        raise BadOption("every group is to be kept in floating point, so there is nothing to quantize; keep fewer")
    given = onnx.ModelProto()
    given.CopyFrom(subject.graph)
    try:
        graph = _quantized(given, inputs, [node for group in keep for node in subject.groups[group]])
    except Exception as error:  # it raises whatever it meets
        raise Unsupported(f"NNCF cannot quantize this graph: {reason(error)}; try --policy int8-dynamic") from error
    del graph.metadata_props[:]
    graph.metadata_props.extend(subject.graph.metadata_props)
    del graph.graph.value_info[:]  # the types that it inferred, which only make the file larger
    graph.graph.value_info.extend(subject.graph.graph.value_info)
    try:
        outputs(graph, first(inputs, 4 * batch_of(graph)), Device())
    except WbError as error:
        raise Unsupported(f"the graph that NNCF made is of no use: {error}. Try --policy int8-dynamic") from error
    low = _eight_bits(graph)
    groups = tuple(group for group, nodes in subject.groups.items() if nodes and set(nodes) <= low)
    if not groups:
        raise Unsupported("NNCF left all weights of this graph in floating point; try --policy int8-dynamic")
    return graph, groups


def _quantized(graph: onnx.ModelProto, inputs: Inputs, ignored: list[str]) -> onnx.ModelProto:
    batch, number = batch_of(graph), number_of(inputs)
    examples = [
        {name: np.ascontiguousarray(values[start : start + batch]) for name, values in inputs.items()}
        for start in range(0, number - batch + 1, batch)
    ]
    with _silent():
        nncf = _nncf()
        result: onnx.ModelProto = nncf.quantize(
            graph,
            nncf.Dataset(examples),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(examples),
            ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None,
        )
    return result


def _eight_bits(graph: onnx.ModelProto) -> set[str]:
    """The nodes whose weights are constants of 8 bits, through a DequantizeLinear and what only moves values."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    makers = {name: node for node in graph.graph.node for name in node.output}

    def low(name: str) -> bool:
        node = makers.get(name)
        while node is not None and node.op_type in ("Transpose", "Reshape", "Identity"):
            name = node.input[0]
            node = makers.get(name)
        return node is not None and node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) in _EIGHT

    return {node.name for node in graph.graph.node if node.op_type in ("MatMul", "Conv", "Gemm") and low(node.input[1])}


def _nncf() -> ModuleType:
    """NNCF, imported so that it tells nobody."""
    before = {name: os.environ.get(name) for name in _NO_TELEMETRY}
    os.environ.update(_NO_TELEMETRY)
    try:
        import nncf
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    module: ModuleType = nncf
    return module


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """NNCF logs and draws progress bars to the standard output, and its dependencies warn."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
