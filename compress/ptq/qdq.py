"""Convolutions of a graph in static int8: quantize and dequantize nodes around them and around what stands between them.

Source: ONNX Runtime's `quantize_static`, weights per channel; Ding et al., "RepVGG", 2021, for a branch without weights as a
one in the middle of a filter.
Differs: rectifiers and additions between quantized convolutions are in 8 bits as well, without ranges of their own in between,
so that the runtime fuses them; a filter of single channels takes over the addition of its own input.
Limits: other activations stay in floating point, between a dequantize and a quantize node.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from wb.compress.ptq.calibration import Inputs, batch_of, number_of
from wb.core.errors import Unsupported, reason
from wb.core.files import scratch
from wb.export.lowering import scopes


def quantize_convolutions(graph: onnx.ModelProto, inputs: Inputs, nodes: Collection[str]) -> onnx.ModelProto:
    """`graph` with the convolutions `nodes` in 8 bits, with ranges from `inputs`; itself if there are none.

    Raises:
        Unsupported: the quantizer fails.
    """
    if not nodes:
        return graph
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    given = onnx.ModelProto()
    given.CopyFrom(graph)
    absorb(given, nodes)
    with scratch() as folder, silent():
        try:
            quantize_static(
                given,
                folder / "int8.onnx",
                _Reader(inputs, batch_of(graph)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Relu", "Add"],
                nodes_to_quantize=[*nodes, *between(given, nodes)],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # its exceptions have no common base class
            raise Unsupported(f"ONNX Runtime's quantizer cannot take this graph: {reason(error)}") from error
        result = onnx.load(folder / "int8.onnx")
    del result.metadata_props[:]
    result.metadata_props.extend(graph.metadata_props)
    del result.graph.value_info[:]  # the inferred types only make the file larger
    result.graph.value_info.extend(graph.graph.value_info)
    return result


def absorb(graph: onnx.ModelProto, nodes: Collection[str]) -> None:
    """Lets filters of single channels among the convolutions `nodes` take over the addition of their own input, in place.

    In floating point the runtime adds while it convolves; in 8 bits an addition is a pass of its own and rounds once more.
    """
    readers, outside = scopes.readers(graph.graph), scopes.output_names(graph.graph)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in [node for node in graph.graph.node if node.name in nodes]:
        behind = readers.get(node.output[0], [])
        alone = len(behind) == 1 and len(readers[node.input[1]]) == 1 and node.output[0] not in outside
        if alone and _adds(behind[0].node, node) and _in_place(node, weights.get(node.input[1])):
            filters = numpy_helper.to_array(weights[node.input[1]]).copy()
            filters[:, 0, filters.shape[2] // 2, filters.shape[3] // 2] += 1
            weights[node.input[1]].CopyFrom(numpy_helper.from_array(filters, node.input[1]))
            node.output[0] = behind[0].node.output[0]
            graph.graph.node.remove(behind[0].node)


def between(graph: onnx.ModelProto, nodes: Collection[str]) -> list[str]:
    """The names of rectifiers and additions of nothing but inputs and outputs of the convolutions `nodes` and of each other."""
    low = {name for node in graph.graph.node if node.name in nodes for name in (node.input[0], *node.output)}
    found: list[str] = []
    for node in graph.graph.node:
        if node.op_type in ("Relu", "Add") and low.issuperset(node.input):
            found.append(node.name)
            low.update(node.output)
    return found


def _adds(node: NodeProto, convolution: NodeProto) -> bool:
    return node.op_type == "Add" and set(node.input) == {convolution.input[0], convolution.output[0]}


def _in_place(node: NodeProto, weight: TensorProto | None) -> bool:
    """Whether the node has a filter of an odd side for each channel, and its output the places of its input."""
    if weight is None or len(weight.dims) != 4:
        return False
    found: Mapping[str, Any] = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    channels, each, *sides = weight.dims
    steps = {*found.get("strides", ()), *found.get("dilations", ())}
    padded = list(found.get("pads", [0] * 4)) == [side // 2 for side in sides] * 2
    return (found.get("group", 1), each) == (channels, 1) and steps <= {1} and padded and all(s % 2 for s in sides)


class _Reader:
    """Calibration inputs as the quantizer asks for them, one batch after the other."""

    def __init__(self, inputs: Inputs, batch: int) -> None:
        self.inputs, self.batch, self.start = inputs, batch, 0

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """The next batch, None after the last."""
        start, self.start = self.start, self.start + self.batch
        if self.start > number_of(self.inputs):
            return None
        return {name: np.ascontiguousarray(values[start : self.start]) for name, values in self.inputs.items()}


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Silences the logs, progress bars and warnings of quantizers."""
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
