"""A graph in the form of integers that Qualcomm's compiler reads: quantize and dequantize nodes around all operators.

Source: ONNX Runtime's `qnn_preprocess_model` and `get_qnn_qdq_config`, which choose types that each operator has there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from wb.compress.ptq.qdq import Reader, silent
from wb.core.errors import Unsupported, reason
from wb.core.system.files import scratch

ACTIVATIONS: Mapping[str, str] = {"u8": "QUInt8", "u16": "QUInt16"}  # of weights in 8 bits


def quantized(
    graph: onnx.ModelProto, inputs: Mapping[str, NDArray[np.generic]], size: int, bits: str
) -> onnx.ModelProto:
    """`graph`, of fixed shapes and without metadata, with activations in `bits` and ranges from `inputs`, `size` a run.

    Raises:
        Unsupported: the quantizer fails.
    """
    from onnxruntime.quantization import QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model

    with scratch() as folder, silent():
        files = [folder / name for name in ("graph.onnx", "prepared.onnx", "quantized.onnx")]
        onnx.save(graph, files[0])
        try:
            changed = qnn_preprocess_model(files[0], files[1])
            source = files[1] if changed else files[0]
            config = get_qnn_qdq_config(
                source,
                Reader(inputs, size),
                activation_type=getattr(QuantType, ACTIVATIONS[bits]),
                weight_type=QuantType.QUInt8,
            )
            quantize(source, files[2], config)
        except Exception as error:  # its exceptions have no common base class
            raise Unsupported(f"ONNX Runtime's quantizer cannot take this graph: {reason(error)}") from error
        return onnx.load(files[2])
