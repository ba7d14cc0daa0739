"""Splitting Gemm into MatMul and Add, which quantizers accept."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from wb.export.lowering import scopes

_PLAIN = (False, 1.0)  # the form of a Gemm that neither transposes nor scales its weights


def split_gemms(graph: GraphProto, taken: set[str]) -> None:
    """Replaces each Gemm with constant weights by MatMul and Add; alpha goes into the weights and beta into the bias.

    Weights that another node reads in another form, or that are an output of the graph, stay unchanged. Their transpose and
    factor become nodes of the graph.
    """
    constants = scopes.constants(graph)
    forms = {
        name: {_form(one.node) if one.node.op_type == "Gemm" and one.place == 1 else None for one in readers}
        for name, readers in scopes.readers(graph).items()
        if name in constants
    }
    alone = forms.keys() - scopes.output_names(graph)
    changed = {name for name in alone if len(forms[name]) == 1 and None not in forms[name]}
    for name in changed:
        _transform(constants[name], *next(form for form in forms[name] if form is not None))
    for one, node in list(scopes.nodes(graph)):
        if node.op_type == "Gemm" and not node.domain and node.input[1] in constants:
            _split(graph, one, node, _PLAIN if node.input[1] in changed else _form(node), taken)


def _form(gemm: NodeProto) -> tuple[bool, float]:
    """Whether the Gemm transposes its weights, and its alpha."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    return bool(values.get("transB", 0)), float(values.get("alpha", 1.0))


def _transform(tensor: TensorProto, transposed: bool, alpha: float) -> None:
    weight = numpy_helper.to_array(tensor)
    turned = np.ascontiguousarray(weight.T if transposed else weight) * weight.dtype.type(alpha)
    tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))


def _split(graph: GraphProto, one: GraphProto, gemm: NodeProto, form: tuple[bool, float], taken: set[str]) -> None:
    """Replaces `gemm` in the graph `one` by a MatMul, and an Add if there is a bias.

    `form` says what remains to be done to the weights: whether to transpose them, and their factor.
    """
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    operand, weight, out, beta = gemm.input[0], gemm.input[1], gemm.output[0], float(values.get("beta", 1.0))
    bias = gemm.input[2] if len(gemm.input) > 2 and beta != 0 else ""
    nodes: list[NodeProto] = []

    def made(kind: str, inputs: list[str], like: str, **more: Any) -> str:
        name = scopes.unused(f"{like}_{kind}", taken)
        nodes.append(helper.make_node(kind, inputs, [name], **more))
        return name

    if values.get("transA", 0):
        operand = made("Transpose", [operand], operand, perm=[1, 0])
    if form[0]:
        weight = made("Transpose", [weight], weight, perm=[1, 0])
    product = made("MatMul", [operand, weight], out)
    nodes[-1].name = gemm.name
    if form[1] != 1:
        product = made("Mul", [product, _number(graph, form[1], out, taken)], product)
    if bias and beta != 1:
        bias = _times(graph, bias, beta, taken) or made("Mul", [bias, _number(graph, beta, bias, taken)], bias)
    if bias:
        made("Add", [product, bias], out)
    nodes[-1].output[0] = out
    place = list(one.node).index(gemm)
    del one.node[place]
    for node in reversed(nodes):
        one.node.insert(place, node)


def _number(graph: GraphProto, value: float, like: str, taken: set[str]) -> str:
    """Adds a scalar constant to the graph; returns its name."""
    name = scopes.unused(f"{like}_factor", taken)
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    return name


def _times(graph: GraphProto, bias: str, beta: float, taken: set[str]) -> str | None:
    """Adds the constant `beta` times `bias` to the graph; returns its name, or None if `bias` is not a constant."""
    constants = scopes.constants(graph)
    if bias not in constants:
        return None
    values = numpy_helper.to_array(constants[bias])
    name = scopes.unused(f"{bias}_scaled", taken)
    graph.initializer.append(numpy_helper.from_array(values * values.dtype.type(beta), name))
    return name
