"""Gemm as MatMul and Add, which quantizers take."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from wb.export import scopes

_PLAIN = (False, 1.0)  # a Gemm that multiplies by its weights as they are


def split_gemms(graph: GraphProto, taken: set[str]) -> None:
    """Replaces each Gemm with constant weights by MatMul and Add, with alpha in the weights and beta in the bias.

    One whose weights would have to be changed, though others read them as they are, stays.
    """
    constants = scopes.constants(graph)
    forms = {
        name: {_form(one.node) if one.node.op_type == "Gemm" and one.place == 1 else None for one in readers}
        for name, readers in scopes.readers(graph).items()
        if name in constants
    }
    agreed = {name: form for name, found in forms.items() if len(found) == 1 for form in found if form is not None}
    for name, form in agreed.items():
        if form != _PLAIN:
            _transform(constants[name], *form)
    for one, node in list(scopes.nodes(graph)):
        constant = node.op_type == "Gemm" and not node.domain and node.input[1] in constants
        if constant and (node.input[1] in agreed or _form(node) == _PLAIN):
            _split(graph, one, node, taken)


def _form(gemm: NodeProto) -> tuple[bool, float]:
    """Whether it transposes its weights, and what it multiplies them by."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    return bool(values.get("transB", 0)), float(values.get("alpha", 1.0))


def _transform(tensor: TensorProto, transposed: bool, alpha: float) -> None:
    weight = numpy_helper.to_array(tensor)
    turned = np.ascontiguousarray(weight.T if transposed else weight) * weight.dtype.type(alpha)
    tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))


def _split(graph: GraphProto, one: GraphProto, gemm: NodeProto, taken: set[str]) -> None:
    """Puts a MatMul, and an Add where there is a bias, in the place of `gemm` in the graph `one`."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    operand, weight, out, beta = gemm.input[0], gemm.input[1], gemm.output[0], float(values.get("beta", 1.0))
    bias = gemm.input[2] if len(gemm.input) > 2 and beta != 0 else ""
    nodes: list[NodeProto] = []
    if values.get("transA", 0):
        turned = scopes.unused(f"{operand}_transposed", taken)
        nodes.append(helper.make_node("Transpose", [operand], [turned], perm=[1, 0]))
        operand = turned
    product = scopes.unused(f"{out}_MatMul", taken) if bias else out
    nodes.append(helper.make_node("MatMul", [operand, weight], [product], name=gemm.name))
    if bias and beta != 1:
        scaled = scopes.unused(f"{bias}_scaled", taken)
        nodes += _times(graph, bias, beta, scaled, taken)
        bias = scaled
    if bias:
        nodes.append(helper.make_node("Add", [product, bias], [out]))
    place = list(one.node).index(gemm)
    del one.node[place]
    for node in reversed(nodes):
        one.node.insert(place, node)


def _times(graph: GraphProto, bias: str, beta: float, scaled: str, taken: set[str]) -> list[NodeProto]:
    """Makes `scaled`, `beta` times `bias`: a constant where that is one, else by the node that is given back."""
    constants = scopes.constants(graph)
    if bias in constants:
        values = numpy_helper.to_array(constants[bias])
        graph.initializer.append(numpy_helper.from_array(values * values.dtype.type(beta), scaled))
        return []
    factor = scopes.unused(f"{scaled}_by", taken)
    graph.initializer.append(numpy_helper.from_array(np.array(beta, np.float32), factor))
    return [helper.make_node("Mul", [bias, factor], [scaled])]
