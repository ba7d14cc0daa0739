"""Products of a graph in static int8: quantize and dequantize nodes around them and around what stands between convolutions.

Source: ONNX Runtime's `quantize_static`, weights per channel.
Differs: rectifiers and additions between quantized convolutions are in 8 bits as well, without ranges of their own in between,
so that the runtime fuses them.
Limits: other activations stay in floating point, between a dequantize and a quantize node.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from wb.compress.ptq.calibration import Inputs, batch_of, number_of
from wb.core.errors import Unsupported, reason
from wb.core.system.files import scratch
from wb.core.system.hush import hushed


def quantize_ranged(graph: onnx.ModelProto, inputs: Inputs, nodes: Collection[str]) -> onnx.ModelProto:
    """`graph` with `nodes`, convolutions and products with constant weights, in 8 bits, with ranges from `inputs`.

    It is itself if there are none.

    Raises:
        Unsupported: the quantizer fails.
    """
    if not nodes:
        return graph
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    given = onnx.ModelProto()
    given.CopyFrom(graph)
    with scratch() as folder, silent():
        try:
            quantize_static(
                given,
                folder / "int8.onnx",
                Reader(inputs, batch_of(graph)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Relu", "Add"],
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


def between(graph: onnx.ModelProto, nodes: Collection[str]) -> list[str]:
    """The names of rectifiers and additions of nothing but inputs and outputs of the convolutions `nodes` and of each other."""
    low = {name for node in graph.graph.node if node.name in nodes for name in (node.input[0], *node.output)}
    found: list[str] = []
    for node in graph.graph.node:
        if node.op_type in ("Relu", "Add") and low.issuperset(node.input):
            found.append(node.name)
            low.update(node.output)
    return found


class Reader:
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
        with hushed():
            yield
    finally:
        logging.disable(previous)
