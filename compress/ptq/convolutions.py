"""Int8 for networks with stages of convolutions: these static, with ranges from calibration inputs, other products as they come.

Source: ONNX Runtime's `quantize_static` (quantize and dequantize nodes, weights per channel) and `quantize_dynamic`.
Differs: a convolution that is kept in floating point stays without ranges; residual additions between two quantized
convolutions are computed in 8 bits, as the runtime fuses them.
Limits: the runtime computes a convolution in 8 bits only where its input and its output have ranges of one type, and NNCF, which
quantizes other graphs (`wb.compress.ptq.static`), gives outputs of ReLU another type than the stream. Its graphs of such a
network were twice as slow as floating point, and these are faster.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray

from wb.compress.ptq.calibration import Inputs, batch_of, first, number_of
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.static import REFUSED, Static, silent
from wb.compress.ptq.subject import Subject
from wb.core.errors import BadOption, Unsupported, WbError, reason
from wb.core.files import scratch
from wb.export.lowering.products import lowered_nodes
from wb.hardware.device import Device


def static_convolutions(subject: Subject, inputs: Inputs, keep: Collection[str] = ()) -> Static:
    """Quantizes all groups except those of `keep`: convolutions with ranges from `inputs`, other products without.

    Raises:
        BadOption: a group of `keep` does not exist, or no group is left to quantize.
        Unsupported: a quantizer fails, or the runtime on what it made.
    """
    unknown = sorted(set(keep) - set(subject.groups))
    if unknown:
        raise BadOption(f"no group named {', '.join(unknown)}; there are {', '.join(subject.groups)}")
    wanted = [group for group in subject.groups if group not in keep and "int8" in subject.options[group]]
    if not wanted:
        raise BadOption("every group is to be kept in floating point, so there is nothing to quantize; keep fewer")
    convolutions = [group for group in wanted if subject.convolution(group)]
    graph = subject.lowered({group: "int8" for group in wanted if group not in convolutions})
    graph = _static(graph, inputs, [node for group in convolutions for node in subject.groups[group]])
    try:
        outputs(graph, first(inputs, 4 * batch_of(graph)), Device())
    except WbError as error:
        raise Unsupported(f"the quantized graph is of no use: {error}. Try --policy int8-dynamic") from error
    low = set(lowered_nodes(graph))
    found = tuple(group for group in wanted if low.issuperset(subject.groups[group]))
    return Static(graph, found, {group: REFUSED for group in wanted if group not in found})


def _static(graph: onnx.ModelProto, inputs: Inputs, nodes: list[str]) -> onnx.ModelProto:
    """`graph` with the convolutions `nodes` between quantize and dequantize nodes."""
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
                _Reader(inputs, batch_of(graph)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=nodes,
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
