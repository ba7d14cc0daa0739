"""Names and readers of values in a graph, including the graphs inside its nodes (branches of If, bodies of Loop and Scan).

Inner graphs read a value of the outermost graph by its name, unless they have a value of that name themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from wb.export.foreign.stored import bodies, graphs


@dataclass(frozen=True)
class Reader:
    """A node that reads a value of the outermost graph as its input number `place`; `graph` is the graph of the node."""

    graph: GraphProto
    node: NodeProto
    place: int


def nodes(graph: GraphProto) -> Iterator[tuple[GraphProto, NodeProto]]:
    """Yields every node at any depth, with the graph that contains it."""
    for one in graphs(graph):
        for node in one.node:
            yield one, node


def names(graph: GraphProto) -> set[str]:
    """The names of all values at any depth."""
    found: set[str] = set()
    for one in graphs(graph):
        found |= own(one)
        found.update(name for node in one.node for name in node.input)
        found.update(value.name for value in one.output)
    return found - {""}


def own(graph: GraphProto) -> set[str]:
    """The names of the values that `graph` itself defines: its inputs, its constants, and the outputs of its nodes."""
    found = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    found |= {tensor.values.name for tensor in graph.sparse_initializer}
    return (found | {name for node in graph.node for name in node.output}) - {""}


def readers(graph: GraphProto) -> dict[str, list[Reader]]:
    """Value of the outermost `graph` -> the nodes that read it, at any depth. The graph's outputs are in `output_names`."""
    found: dict[str, list[Reader]] = {}
    waiting: list[tuple[GraphProto, frozenset[str]]] = [(graph, frozenset())]
    while waiting:
        one, hidden = waiting.pop(0)
        for node in one.node:
            for place, name in enumerate(node.input):
                if name and name not in hidden:
                    found.setdefault(name, []).append(Reader(one, node, place))
            waiting.extend((body, hidden | own(body)) for body in bodies(node))
    return found


def output_names(graph: GraphProto) -> set[str]:
    """The names of the outputs of `graph`. They may be constants, which then must not change."""
    return {value.name for value in graph.output}


def rename(graph: GraphProto, after: Mapping[str, str]) -> None:
    """Makes every node, at any depth, that reads a value in `after` of `graph` read the value that `after` maps it to."""
    for name, found in readers(graph).items():
        for reader in found if name in after else ():
            reader.node.input[reader.place] = after[name]


def unique_names(model: ModelProto) -> ModelProto:
    """The model with unique names: a value of an inner graph that shares its name with another value is renamed.

    Functions are treated the same way. A model without inner graphs is returned as it is.
    """
    if not any(bodies(node) for part in (model.graph, *model.functions) for node in part.node):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    _part(copy.graph)
    for function in copy.functions:
        body = GraphProto(node=function.node)
        body.input.extend(onnx.ValueInfoProto(name=name) for name in function.input)
        _part(body)
        function.ClearField("node")
        function.node.extend(body.node)
    return copy


def _part(graph: GraphProto) -> None:
    every, seen = names(graph), own(graph)
    for one in graphs(graph)[1:]:
        mine = own(one)
        after = {name: unused(name, every) for name in sorted(mine & seen)}
        seen |= mine | set(after.values())
        if not after:
            continue
        rename(one, after)
        for node in one.node:
            node.output[:] = [after.get(name, name) for name in node.output]
        sparse = (tensor.values for tensor in one.sparse_initializer)
        for value in (*one.input, *one.output, *one.value_info, *one.initializer, *sparse):
            value.name = after.get(value.name, value.name)


def unused(name: str, taken: set[str]) -> str:
    """`name` with underscores appended until it is not in `taken`; adds the result to `taken`."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def constants(graph: GraphProto) -> dict[str, onnx.TensorProto]:
    """Name -> constant of the outermost graph, except those that a user may replace by an input."""
    inputs = {value.name for value in graph.input}
    return {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
