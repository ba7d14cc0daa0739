"""Constant folding: brings a graph into the form that quantizers read.

Constants are folded and moved to the outermost graph, and every Gemm becomes a MatMul and an Add. ONNX Runtime does the
folding. It would copy a weight that is also read in another form (an embedding whose transpose is the head), which makes the
file larger for nothing; so such weights are hidden from it as graph inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from wb.core.errors import Unsupported, reason
from wb.core.system.files import scratch
from wb.export.foreign.stored import graphs
from wb.export.lowering import scopes
from wb.export.lowering.gemm import split_gemms

IR = 4  # the first IR version in which constants need not be inputs
_MOVES = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
_SMALL = ("Shape", "Size", "Gather", "GatherND", "Slice")  # their result is only a part of a constant, or its shape


def folded(path: Path) -> ModelProto:
    """The graph at `path` with constants folded by ONNX Runtime and every Gemm split into MatMul and Add.

    All constants are in the outermost graph, also those that inner graphs read. Every node has a unique name.

    Raises:
        Unsupported: the runtime cannot load the graph.
    """
    try:
        given = onnx.load(path)
        version, declared = given.ir_version, list(given.opset_import)
        taken = scopes.names(given.graph)
        _release(given)
        _gather(given.graph, taken)
        _merge_moves(given.graph, taken)
        hidden = _hide_shared(given.graph)
        model = _optimized(given)
    except Exception as error:  # the runtime's exceptions have no common base class
        raise Unsupported(
            f"the runtime cannot load {path} ({reason(error)}); give a graph that `wb measure` can time"
        ) from error
    model.ir_version = max(version, IR)
    # The runtime imports every domain that it knows. Keep only the declared ones and those of nodes that it introduced.
    introduced = {node.domain for _, node in scopes.nodes(model.graph)} - {entry.domain for entry in declared}
    imports = [*declared, *(entry for entry in model.opset_import if entry.domain in introduced)]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    _drop_inputs(model.graph, hidden)
    taken |= scopes.names(model.graph)
    _gather(model.graph, taken)
    _flatten_weights(model)
    split_gemms(model.graph, taken)
    _drop_unread(model.graph)
    _name_nodes(model.graph)
    return model


def _optimized(model: ModelProto) -> ModelProto:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with scratch() as folder:
        options.optimized_model_filepath = str(folder / "folded.onnx")
        # Merging equal nodes would leave some weights without a node of their own.
        merging = ["CommonSubexpressionElimination", "MatMulAddFusion"]
        ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=merging
        )
        return onnx.load(options.optimized_model_filepath)


# ------------------------------------------------------------------------------------------------------------- constants


def _release(model: ModelProto) -> None:
    """Removes weights from the graph's inputs.

    Before IR 4 all constants are listed among the inputs, and later those that a user may replace.
    """
    weights = {tensor.name for tensor in model.graph.initializer if model.ir_version < IR or _is_weight(tensor)}
    _drop_inputs(model.graph, weights)
    model.ir_version = max(model.ir_version, IR)


def _gather(graph: GraphProto, taken: set[str]) -> None:
    """Moves all constants, `Constant` nodes and initializers of inner graphs, into the outermost graph.

    Constants that are inputs or outputs of their graph stay.
    """
    for one in graphs(graph):
        given = {value.name for value in (*one.output, *one.input)}
        inside = [tensor for tensor in one.initializer if one is not graph and tensor.name not in given]
        nodes = {node.output[0]: node for node in one.node if _is_constant(node) and node.output[0] not in given}
        tensors = {tensor.name: tensor for tensor in inside}
        tensors |= {name: node.attribute[0].t for name, node in nodes.items()}
        names = {name: name if one is graph else scopes.unused(name, taken) for name in tensors}
        if one is not graph:
            scopes.rename(one, names)
        for name, tensor in tensors.items():
            moved = graph.initializer.add()
            moved.CopyFrom(tensor)
            moved.name = names[name]
        for tensor in inside:
            one.initializer.remove(tensor)
        if nodes:
            others = [node for node in one.node if not node.output or node.output[0] not in nodes]
            del one.node[:]
            one.node.extend(others)


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value"


def _merge_moves(graph: GraphProto, taken: set[str]) -> None:
    """Moves nodes that only rearrange or cast weights to the start of the graph, equal ones once: products may share them."""
    weights = {name for name, tensor in scopes.constants(graph).items() if _is_weight(tensor)}
    known = set(scopes.constants(graph))
    made: dict[bytes, NodeProto] = {}
    for one in graphs(graph):
        given = {value.name for value in one.output}
        after: dict[str, str] = {}
        others = []
        for node in one.node:
            inputs = [after.get(name, name) for name in node.input]
            moves = node.op_type in _MOVES and len(node.output) == 1 and node.output[0] not in given
            if not (moves and known.issuperset(inputs) and weights.intersection(inputs)):
                others.append(node)
                continue
            name = node.output[0]
            after[name] = inputs[0] if node.op_type == "Identity" else _made(made, node, inputs, taken)
            known.add(after[name])
            weights.add(after[name])
        if after:
            del one.node[:]
            one.node.extend(others)
            scopes.rename(one, after)
    for node in reversed(made.values()):
        graph.node.insert(0, node)


def _made(made: dict[bytes, NodeProto], node: NodeProto, inputs: Sequence[str], taken: set[str]) -> str:
    """The output name of the node in `made` that equals `node` with `inputs`; adds the node to `made` if it is new."""
    bare = NodeProto()
    bare.CopyFrom(node)
    bare.name = bare.doc_string = bare.output[0] = ""
    bare.input[:] = inputs
    key = bare.SerializeToString(deterministic=True)
    if key not in made:
        bare.output[0] = scopes.unused(f"{node.output[0]}_once", taken)
        made[key] = bare
    name: str = made[key].output[0]
    return name


def _hide_shared(graph: GraphProto) -> set[str]:
    """Turns the weights that folding would copy into inputs of the graph; returns their names."""
    constants = scopes.constants(graph)
    roots = {name: {name} if _is_weight(tensor) else set() for name, tensor in constants.items()}
    for node in graph.node:
        if node.input and all(name in roots for name in node.input):
            behind = set() if _small(node) else {root for name in node.input for root in roots[name]}
            roots.update(dict.fromkeys(node.output, behind))
    left: dict[str, set[str]] = {}  # weight -> the constants that folding would leave of it
    every, given = scopes.readers(graph), scopes.output_names(graph)
    for name in every.keys() | given:
        readers = every.get(name, [])
        used = name in given or any(one.graph is not graph or one.node.output[0] not in roots for one in readers)
        if name in roots and used:
            for root in roots[name]:
                left.setdefault(root, set()).add(name)
    found = {root for root, copies in left.items() if len(copies) > 1}
    for name in found:
        graph.input.append(helper.make_tensor_value_info(name, constants[name].data_type, constants[name].dims))
    return found


def _small(node: NodeProto) -> bool:
    return node.op_type in _SMALL or node.op_type.startswith("Reduce")


def _is_weight(tensor: TensorProto) -> bool:
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return len(tensor.dims) >= 2 and tensor.data_type in floats


def _drop_inputs(graph: GraphProto, names: set[str]) -> None:
    for value in [value for value in graph.input if value.name in names]:
        graph.input.remove(value)


def _drop_unread(graph: GraphProto) -> None:
    """Removes constants that nothing reads any more, and type entries of values that no longer exist."""
    used = set(scopes.readers(graph)) | {value.name for value in (*graph.output, *graph.input)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    for one in graphs(graph):
        made = {name for node in one.node for name in node.output}
        types = [value for value in one.value_info if value.name in made]  # constants contain their type
        del one.value_info[:]
        one.value_info.extend(types)


# ----------------------------------------------------------------------------------------------------------------- nodes


def _flatten_weights(model: ModelProto) -> None:
    """Drops leading dimensions of size one from the weights of MatMul, if the other operand has at least as many dimensions."""
    every, given = scopes.readers(model.graph), scopes.output_names(model.graph)
    found = {}
    for name, tensor in scopes.constants(model.graph).items():
        readers = every.get(name, [])
        nodes = [one.node for one in readers if one.node.op_type == "MatMul" and one.place == 1]
        free = name not in given and len(nodes) == len(readers)
        if len(tensor.dims) > 2 and {*tensor.dims[:-2]} == {1} and free:
            found[name] = (tensor, nodes)
    ranks = _ranks(model) if found else {}
    for tensor, nodes in found.values():
        if all(ranks.get(node.input[0], 0) >= len(tensor.dims) for node in nodes):
            del tensor.dims[:-2]


def _ranks(model: ModelProto) -> dict[str, int]:
    """Value name -> number of dimensions, where shape inference finds it."""
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for one in graphs(shape_inference.infer_shapes(model).graph)
        for value in (*one.input, *one.value_info, *one.output)
        if value.type.tensor_type.HasField("shape")
    }


def _name_nodes(graph: GraphProto) -> None:
    """Gives every node at any depth a unique name, because quantizers address nodes by name."""
    taken: set[str] = {node.name for _, node in scopes.nodes(graph)}
    seen: set[str] = set()
    for i, (_, node) in enumerate(scopes.nodes(graph)):
        if not node.name or node.name in seen:
            node.name = scopes.unused(node.name or f"{node.op_type}_{i}", taken)
        seen.add(node.name)
