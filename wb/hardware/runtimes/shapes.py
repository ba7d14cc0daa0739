"""A graph for inputs of certain shapes, as compilers for devices want it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from wb.hardware.runtimes.base import Graph

if TYPE_CHECKING:
    import onnx


def shaped(graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """The graph with the shapes of `inputs` in the place of dynamic ones; what is stated of other shapes is left out.

    Weights that lie beside its file are in it.
    """
    import onnx

    model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(graph)
    for one in model.graph.input:
        if one.name in inputs:
            del one.type.tensor_type.shape.dim[:]
            for size in inputs[one.name].shape:
                one.type.tensor_type.shape.dim.add(dim_value=size)
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")
    return model
