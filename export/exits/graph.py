"""A network with early exits as one ONNX graph, whose `If` nodes skip what an example does not need.

    pixel_values -> blocks to the first exit -> answer, how sure it is
    If sure enough: that answer                      else: blocks to the second exit -> answer, how sure it is
                                                          If sure enough: that answer   else: … -> logits

Blocks are exported by torch piece by piece; the pieces are put into one another here. A run takes one example,
because a graph has one way at a time: a batch would go as far as its last example. `Runner` gives such a graph its
examples one by one. Beside `logits` the graph gives `exit`, the number of the exit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from wb.core.errors import Unsupported
from wb.core.measures.readings import Reading
from wb.core.specs import PIXELS
from wb.core.system.files import replacing, scratch
from wb.export.graph import LOGITS, OPSET, TOLERANCE, ExportDiffers, check_difference
from wb.export.refusal import check_exportable
from wb.export.writing import quieted, write
from wb.hardware.device import Device, session
from wb.models.exits.module import Exiting, ExitingNetwork, sure
from wb.models.exits.record import KEY
from wb.models.feeds import made_up
from wb.models.files.history import public
from wb.models.groups import kept, settle
from wb.models.layers.operator import NOTHING
from wb.models.walk import State

THRESHOLD = "threshold"  # with the number of the exit: what its likeliest class's probability has to be above
EXIT = "exit"  # the graph's second output
COMPARED = 4  # inputs
CLOSE = 1e-3  # a probability so near the threshold may round to the other side


class _Piece(nn.Module):
    """The blocks between two exits, from the tensors of a state to those of the next; the first piece begins with images."""

    def __init__(self, network: ExitingNetwork, number: int) -> None:
        super().__init__()
        self.network, self.number = network, number
        names = [name for name, _ in network.steps()]
        ends = [names.index(name) + 1 for name in network.record.after]
        first, self.last = ([0, *ends][number], [*ends, len(names)][number])
        self.steps = [step for _, step in network.steps()][first : self.last]
        self.stage = 0 if not first else list(network.steps())[first - 1][1].stage

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Images, or stream and memory -> answer, how sure it is, stream and memory; the last piece gives its answer alone."""
        trunk = self.network.trunk
        state = State(given[0], self.stage, given[1:], NOTHING) if self.number else trunk.begin(given[0])
        for step in self.steps:
            state = step(state)
        if self.number == len(self.network.exits):
            return (trunk.end(state),)
        answer = self.network.exit(self.number)(self.network.features(state))
        return answer, sure(answer), state.stream, *state.memory


def export_exiting(model: Exiting, path: Path, *, force: bool = False) -> Reading:
    """Writes the graph: `pixel_values` (1, channels, height, width) -> `logits` (1, classes) and `exit` (1).

    Returns the largest difference between its logits and torch's.

    Raises:
        BadOption: the file exists and `force` is false.
        ExportDiffers: the graph computes something else, or leaves elsewhere.
        StorageFailed: it could not be written.
        Unsupported: weights in int8 or int4, which are made of whole graphs; or a part that no graph computes.
    """
    check_exportable(model.architecture)
    network = model.network()
    if not set(kept(network.trunk).values()) <= {"fp32", "w1", "w2"}:
        raise Unsupported(
            "a graph with early exits is in floating point, and the model keeps weights in fewer bits; convert it first"
        )
    settle(network.trunk)
    feed = made_up(model.architecture.input.specs(), COMPARED)
    with replacing(path, force=force) as temporary:
        write(_composed(network, feed[PIXELS][:1]), temporary, _metadata(model))
        return _compared(network, temporary, feed[PIXELS])


def _metadata(model: Exiting) -> dict[str, str]:
    a = model.architecture
    return {
        "wb.labels": json.dumps(a.head.labels),
        "wb.architecture": a.to_json(),
        "wb.history": json.dumps(public(model.trunk.history)),
        KEY: json.dumps(model.record.model_dump(mode="json")),
    }


def _composed(network: ExitingNetwork, image: Tensor) -> onnx.ModelProto:
    """The pieces in one another, the last innermost."""
    given: tuple[Tensor, ...] = (image,)
    pieces: list[onnx.GraphProto] = []
    opsets: Sequence[onnx.OperatorSetIdProto] = ()
    for number in range(len(network.exits) + 1):
        piece = _Piece(network, number).eval()
        graph, opsets, given = _exported(piece, given)
        pieces.append(graph)
    classes = network.trunk.architecture.head.classes
    body = _with_exit(pieces[-1], len(pieces) - 1, classes)
    for number in reversed(range(len(pieces) - 1)):
        body = _branched(pieces[number], number, body, network)
    image_info = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, list(image.shape))
    graph = helper.make_graph(body.node, "exiting", [image_info], body.output, body.initializer)
    for output, name in zip(graph.output, (LOGITS, EXIT), strict=True):
        _renamed(graph, {output.name: name})
    made = helper.make_model(graph, opset_imports=opsets, producer_name="wb")
    made.ir_version = helper.find_min_ir_version_for(opsets)
    return made


def _exported(
    piece: _Piece, given: tuple[Tensor, ...]
) -> tuple[onnx.GraphProto, Sequence[onnx.OperatorSetIdProto], tuple[Tensor, ...]]:
    """The graph of one piece, whose names are its own but for the tensors between pieces; and what it gives to the next."""
    k = piece.number
    with torch.no_grad():
        found = piece(*given)
    last = len(found) == 1
    inputs = [f"state{k}.{i}" for i in range(len(given))] if k else [PIXELS]
    outputs = (
        [f"answer{k}"] if last else [f"answer{k}", f"sure{k}", *(f"state{k + 1}.{i}" for i in range(len(found) - 2))]
    )
    with quieted(), scratch() as folder:
        file = folder / "piece.onnx"
        torch.onnx.export(
            piece,
            given,
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
        )
        made = onnx.load(file)
    shared = {*inputs, *outputs}
    names = {name for node in made.graph.node for name in node.output} | {one.name for one in made.graph.initializer}
    _renamed(made.graph, {name: f"p{k}.{name}" for name in names - shared if name})
    for node in made.graph.node:
        node.name = f"p{k}.{node.name}"
    return made.graph, made.opset_import, found[2:]


def _renamed(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames values in a graph and in the graphs within it."""
    for one in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        one.name = names.get(one.name, one.name)
    for node in graph.node:
        for values in (node.input, node.output):
            for i, name in enumerate(values):
                values[i] = names.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _renamed(inner, names)


def _with_exit(piece: onnx.GraphProto, number: int, classes: int) -> onnx.GraphProto:
    """The last piece as a branch: its answer, and the number of the exit."""
    graph = onnx.GraphProto()
    graph.CopyFrom(piece)
    del graph.input[:]
    return _branch(
        f"end{number}", [*graph.node, _number(number)], graph.initializer, f"answer{number}", number, classes
    )


def _branched(piece: onnx.GraphProto, number: int, rest: onnx.GraphProto, network: ExitingNetwork) -> onnx.GraphProto:
    """A piece, and behind it a choice between its answer and the `rest`."""
    classes, gate = network.trunk.architecture.head.classes, network.exit(number).gate.item()
    leaving = helper.make_node("Identity", [f"answer{number}"], [f"kept{number}"])
    leave = _branch(f"leave{number}", [leaving, _number(number)], [], f"kept{number}", number, classes)
    limit = numpy_helper.from_array(np.full(1, gate, np.float32), f"{THRESHOLD}:{number}")
    above = helper.make_node("Greater", [f"sure{number}", limit.name], [f"leaves{number}"])
    names = [f"found{number}", f"by{number}"]
    choice = helper.make_node("If", [above.output[0]], names, f"If{number}", then_branch=leave, else_branch=rest)
    nodes = [*piece.node, above, choice]
    outputs = [_answer(names[0], classes), helper.make_tensor_value_info(names[1], TensorProto.INT64, [1])]
    return helper.make_graph(nodes, f"piece{number}", [], outputs, [*piece.initializer, limit])


def _branch(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[TensorProto],
    answer: str,
    number: int,
    classes: int,
) -> onnx.GraphProto:
    outputs = [_answer(answer, classes), helper.make_tensor_value_info(f"number{number}", TensorProto.INT64, [1])]
    return helper.make_graph(nodes, name, [], outputs, initializers)


def _answer(name: str, classes: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, classes])


def _number(number: int) -> onnx.NodeProto:
    value = numpy_helper.from_array(np.array([number], np.int64))
    return helper.make_node("Constant", [], [f"number{number}"], value=value)


def _compared(network: ExitingNetwork, path: Path, images: Tensor) -> Reading:
    """The largest difference between logits of the graph and torch's, relative where they exceed 1.

    Raises:
        ExportDiffers: it exceeds the tolerance of all exports; or the graph leaves elsewhere, and no probability is near a
            threshold.
    """
    device = Device()
    run, worst = session(path, device), 0.0
    with torch.inference_mode():
        for image in images.split(1):
            given, at = run.run([LOGITS, EXIT], {PIXELS: image.numpy()})
            answers = network.everything(image)
            number, own = int(at[0]), int(network.left_at(answers)[0])
            first = min(number, own)
            near = number != own and bool((sure(answers[first]) - network.exit(first).gate).abs() < CLOSE)
            if number != own and not near:
                raise ExportDiffers(
                    f"the exported graph leaves by exit {number} where the model leaves by {own}; nothing was written. "
                    "Report the architecture"
                )
            expected = answers[number].numpy()
            worst = max(worst, float((np.abs(given - expected) / np.maximum(1, np.abs(expected).max())).max()))
    check_difference(worst, TOLERANCE)
    return Reading(value=worst, unit="logit", how="measured", n=len(images), device=device.text)
