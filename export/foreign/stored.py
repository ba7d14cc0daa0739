"""Traversal of an ONNX file: all its graphs, including those inside nodes and functions, and their constants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

OTHERS = ("DOUBLE", "COMPLEX64", "COMPLEX128")
FLOATING = frozenset(kind for name, kind in TensorProto.DataType.items() if "FLOAT" in name or name in OTHERS)


@dataclass(frozen=True)
class Scope:
    """A list of nodes and the constants stored with it: the main graph, a branch or body, or a function."""

    nodes: Sequence[NodeProto]
    tensors: Sequence[TensorProto] = ()
    sparse: Sequence[onnx.SparseTensorProto] = ()


@dataclass(frozen=True)
class Constant:
    """A stored constant: how many numbers are stored, their `onnx.TensorProto.DataType`, and the number of axes."""

    name: str
    numbers: int
    type: int
    axes: int


def named(name: str) -> str:
    """A name from a file, quoted and shortened for a message."""
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:60]}…{text[-15:]}"


def bodies(node: NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node: branches of an `If`, the body of a `Loop` or a `Scan`."""
    found: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """`graph`, then all graphs inside its nodes, at any depth."""
    found = [graph]
    for one in found:  # grows
        found.extend(body for node in one.node for body in bodies(node))
    return found


def family(root: Scope) -> list[Scope]:
    """A scope, then those of all graphs inside its nodes, at any depth."""
    return [root, *(_scope(g) for node in root.nodes for body in bodies(node) for g in graphs(body))]


def families(model: onnx.ModelProto) -> Iterator[list[Scope]]:
    """Yields the main graph and each function, each as a list with the graphs inside its nodes.

    The scopes of a list may reuse names; see `wb.export.lowering.scopes.unique_names`.
    """
    for root in (_scope(model.graph), *(Scope(function.node) for function in model.functions)):
        yield family(root)


def scopes(model: onnx.ModelProto) -> Iterator[Scope]:
    """Yields every graph and function of the file once."""
    for found in families(model):
        yield from found


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yields every stored tensor, in initializers and in attributes."""
    for scope in scopes(model):
        for _, tensor in values(scope):
            yield tensor


def values(scope: Scope) -> Iterator[tuple[str, TensorProto]]:
    """Yields the scope's stored tensors with the names of their values, including numbers in attributes of `Constant` nodes."""
    for tensor in scope.tensors:
        yield tensor.name, tensor
    for sparse in scope.sparse:
        yield from ((sparse.values.name, part) for part in (sparse.values, sparse.indices))
    for node in scope.nodes:
        for attribute in node.attribute:
            yield from ((node.output[0] if node.output else node.name, tensor) for tensor in _of(attribute))


def constants(scope: Scope) -> Iterator[Constant]:
    """Yields the scope's constants: initializers, sparse initializers and `Constant` nodes."""
    for tensor in scope.tensors:
        yield _constant(tensor.name, tensor)
    for sparse in scope.sparse:
        yield _sparse(sparse.values.name, sparse)
    for node in scope.nodes:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output:
            for attribute in node.attribute:
                yield from _written(node.output[0], attribute)


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a run has to provide, without initializers, which older files also list as inputs."""
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _scope(graph: onnx.GraphProto) -> Scope:
    return Scope(graph.node, graph.initializer, graph.sparse_initializer)


def _of(attribute: AttributeProto) -> Iterable[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.name == "value_floats":
        yield TensorProto(data_type=TensorProto.FLOAT, dims=[len(attribute.floats)], float_data=attribute.floats)
    for sparse in (
        *((attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()),
        *attribute.sparse_tensors,
    ):
        yield from (sparse.values, sparse.indices)


def _written(name: str, attribute: AttributeProto) -> Iterator[Constant]:
    """The constant in an attribute of a `Constant` node."""
    match attribute.name:
        case "value":
            yield _constant(name, attribute.t)
        case "sparse_value":
            yield _sparse(name, attribute.sparse_tensor)
        case "value_floats":
            yield Constant(name, len(attribute.floats), TensorProto.FLOAT, 1)


def _constant(name: str, tensor: TensorProto) -> Constant:
    return Constant(name, math.prod(tensor.dims), tensor.data_type, len(tensor.dims))


def _sparse(name: str, sparse: onnx.SparseTensorProto) -> Constant:
    """A sparse tensor as a constant: the number of stored values, and the axes of the dense tensor."""
    return Constant(name, math.prod(sparse.values.dims), sparse.values.data_type, len(sparse.dims))
