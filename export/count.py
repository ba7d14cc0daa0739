"""Counting what any ONNX graph has: parameters and multiply-accumulates, from the shapes in the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import numpy_helper, shape_inference

from wb.core.architecture import Architecture
from wb.core.readings import Reading
from wb.export.graph import open_graph
from wb.hardware.energy import NOTE, picojoules
from wb.models.counting import count_parameters, operations

Shape = Sequence[int]

# Products whose cost is not read off one output; a sum without them would be too low.
UNCOUNTED = (
    *(
        "Einsum",
        "ConvTranspose",
        "DeformConv",
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "LinearAttention",
    ),
    *("LSTM", "GRU", "RNN", "Loop", "Scan", "If", "MatMulNBits", "FusedMatMul", "FusedGemm", "QAttention"),
)


def count_graph(path: Path) -> dict[str, Reading]:
    """`params` (numbers in the file's tensors) and `macs` (convolutions and matrix products) of an ONNX file.

    A dynamic first dimension counts as 1. `macs` is left out where a shape cannot be inferred or an operator is not known to
    this function (`UNCOUNTED`).

    Limits: integer and quantized products count like others.

    Raises:
        BadArtefact: no ONNX file.
    """
    model = open_graph(path)
    params = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    found = {"params": Reading(value=params, unit="parameters", how="counted")}
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim[:1]:
            if value.name not in weights and not dim.HasField("dim_value"):
                dim.dim_value = 1
    macs = 0
    try:
        shapes = _shapes(model)
    except shape_inference.InferenceError:
        return found
    for node in model.graph.node:
        count = _macs(node, shapes)
        if count is None:
            return found
        macs += count
    return found | {"macs": Reading(value=macs, unit="MAC", how="counted")}


def count_model(architecture: Architecture, path: Path) -> dict[str, Reading]:
    """What needs no run, of one of our own networks exported to `path`: size of the file, MACs, parameters, energy."""
    macs = sum(part.macs for part in operations(architecture).values())
    return {
        "size": Reading(value=path.stat().st_size, unit="B", how="counted"),
        "macs": Reading(value=macs, unit="MAC", how="counted"),
        "params": count_parameters(architecture),
        "energy": model_energy(architecture),
    }


def model_energy(architecture: Architecture) -> Reading:
    """What the arithmetic of one image would take, as `wb.hardware.energy` models it."""
    return Reading(value=sum(energy_by_part(architecture).values()), unit="pJ", how="predicted", note=NOTE)


def energy_by_part(architecture: Architecture) -> dict[str, float]:
    """The same in picojoules, part by part as `wb.models.counting.operations` has them."""
    return {name: picojoules(*part) for name, part in operations(architecture).items()}


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Every tensor whose shape is known."""
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, Shape] = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for node in inferred.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            shapes[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).shape
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """0 for what is no product; None where a shape is missing, or for a product that is not counted here."""
    if node.op_type in UNCOUNTED:
        return None
    if node.op_type not in ("MatMul", "Gemm", "Conv", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"):
        return 0
    # The quantized forms carry scales between their operands.
    second = 3 if node.op_type.startswith("QLinear") else 1
    operand, output = shapes.get(node.input[second]), shapes.get(node.output[0])
    first = shapes.get(node.input[0])
    if operand is None or output is None or first is None:
        return None
    if "Conv" in node.op_type:
        return math.prod(output) * math.prod(operand[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * (first[0] if transposed else first[-1])
