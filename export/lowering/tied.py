"""A tied table in fewer bits: the tokens are looked up in, and the head reads, the same stored bytes.

ONNX Runtime's quantizers skip a product whose weights are computed (the transpose of the table) without a word. Here both
readers are rewritten: in int8 rows are gathered and scaled, and the head is a `MatMulInteger` of the transposed bytes; in int4
they are `GatherBlockQuantized` and `MatMulNBits` of the same blocks in another shape. The runtime makes transpose and shape
when it loads the graph.

Differs: the quantizers give every output of a product a scale and a zero point; here a row of the table has a scale and no
zero point, in int4 a scale for each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from wb.core.records import Precision
from wb.export.lowering import scopes
from wb.export.pasts import PASTS

BLOCK = 32  # weights that share a scale in int4
QUANT, Q4 = "_quant", "_Q4"  # endings that the runtime's quantizers give to the names of nodes
_DOMAIN = "com.microsoft"


def continues(graph: GraphProto) -> bool:
    """Whether a graph continues texts: it takes what it kept of the tokens before."""
    return any(value.name.startswith(PASTS) for value in graph.input)


def tied_tables(graph: GraphProto) -> dict[str, str]:
    """Name of the head's product -> name of the table that it shares with a look-up, in a graph that continues texts."""
    if not continues(graph):
        return {}
    found: dict[str, str] = {}
    makers = {name: node for node in graph.node for name in node.output}
    tensors, readers = scopes.constants(graph), scopes.readers(graph)
    for node in graph.node:
        turn = makers.get(node.input[1]) if node.op_type == "MatMul" else None
        if turn is None or turn.op_type != "Transpose" or len(readers[turn.output[0]]) > 1:
            continue
        table = tensors.get(turn.input[0])
        if table is None or len(table.dims) != 2 or table.data_type != TensorProto.FLOAT:
            continue
        others = [reader for reader in readers[table.name] if reader.node is not turn]
        if others and all(reader.node.op_type == "Gather" and reader.place == 0 for reader in others):
            found[node.name] = table.name
    return found


def in_blocks(dims: tuple[int, ...]) -> bool:
    """Whether the rows of a table consist of whole blocks, which both readers want."""
    return dims[1] % BLOCK == 0


def lower_tied(model: ModelProto, wanted: Mapping[str, Precision]) -> None:
    """Puts the tables of the named products into int8 or int4, in place; both of their readers read those bytes."""
    graph = model.graph
    if not wanted:
        return
    for name, table in tied_tables(graph).items():
        if name not in wanted:
            continue
        node = next(node for node in graph.node if node.name == name)
        turn = next(one for one in graph.node if node.input[1] in one.output)
        gathers = [one for one in graph.node if one.op_type == "Gather" and one.input[0] == table]
        stored = next(tensor for tensor in graph.initializer if tensor.name == table)
        values = numpy_helper.to_array(stored)
        graph.initializer.remove(stored)
        rewrite = _in_int8 if wanted[name] == "int8" else _in_int4
        made, constants = rewrite(table, values, node, gathers)
        graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in constants.items())
        for old, new in made:
            place = list(graph.node).index(old)
            graph.node.remove(old)
            for i, one in enumerate(new):
                graph.node.insert(place + i, one)
        graph.node.remove(turn)
    if not any(entry.domain == _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


Rewritten = tuple[list[tuple[NodeProto, list[NodeProto]]], dict[str, NDArray[Any]]]


def _in_int8(table: str, values: NDArray[np.float32], head: NodeProto, gathers: list[NodeProto]) -> Rewritten:
    scale = np.maximum(np.abs(values).max(axis=1), np.float32(1e-30)) / np.float32(127)  # (V,)
    bits = np.clip(np.rint(values / scale[:, None]), -127, 127).astype(np.int8)
    constants = {f"{table}_quantized": bits, f"{table}_scale": scale, f"{table}_scales": scale[:, None]}
    made = []
    for gather in gathers:
        name, (_, ids), out = gather.name, gather.input, gather.output[0]
        made.append(
            (
                gather,
                [
                    _node("Gather", [f"{table}_quantized", ids], f"{name}_bits", name),
                    _node("Cast", [f"{name}_bits"], f"{name}_float", f"{name}_cast", to=TensorProto.FLOAT),
                    _node("Gather", [f"{table}_scales", ids], f"{name}_scale", f"{name}_of_scale"),
                    _node("Mul", [f"{name}_float", f"{name}_scale"], out, f"{name}_scaled"),
                ],
            )
        )
    name, x, out = head.name, head.input[0], head.output[0]
    ranged = helper.make_node(
        "DynamicQuantizeLinear", [x], [f"{name}_x", f"{name}_x_scale", f"{name}_x_zero"], name=f"{name}_range"
    )
    product = [f"{name}_x", f"{name}_turned", f"{name}_x_zero"]
    made.append(
        (
            head,
            [
                ranged,
                _node("Transpose", [f"{table}_quantized"], f"{name}_turned", f"{name}_turn", perm=[1, 0]),
                _node("MatMulInteger", product, f"{name}_sum", f"{name}{QUANT}"),
                _node("Cast", [f"{name}_sum"], f"{name}_sum_float", f"{name}_cast", to=TensorProto.FLOAT),
                _node("Mul", [f"{name}_x_scale", f"{table}_scale"], f"{name}_scale", f"{name}_both"),
                _node("Mul", [f"{name}_sum_float", f"{name}_scale"], out, f"{name}_scaled"),
            ],
        )
    )
    return made, constants


def _in_int4(table: str, values: NDArray[np.float32], head: NodeProto, gathers: list[NodeProto]) -> Rewritten:
    rows, width = values.shape
    blocks = values.reshape(rows, width // BLOCK, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    scale = largest / np.float32(-8)  # so that the largest is exact, as the runtime's quantizer has it
    over = np.where(scale == 0, np.float32(1), scale)
    numbers = np.clip(np.rint(blocks / over[:, :, None]) + 8, 0, 15).astype(np.uint8).reshape(rows, width)
    packed = numbers[:, 0::2] | (numbers[:, 1::2] << 4)  # (V, D / 2), the lower half of a byte first
    shape = np.array([rows, width // BLOCK, BLOCK // 2], np.int64)
    constants = {f"{table}_Q4": packed, f"{table}_scales": scale, f"{table}_blocks": shape}
    made = []
    for gather in gathers:
        given = [f"{table}_Q4", gather.input[1], f"{table}_scales"]
        looked_up = _node(
            "GatherBlockQuantized",
            given,
            gather.output[0],
            gather.name,
            _DOMAIN,
            bits=4,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        made.append((gather, [looked_up]))
    name, x, out = head.name, head.input[0], head.output[0]
    shaped = _node("Reshape", [f"{table}_Q4", f"{table}_blocks"], f"{name}_blocks", f"{name}_shape")
    product = _node(
        "MatMulNBits",
        [x, f"{name}_blocks", f"{table}_scales"],
        out,
        f"{name}{Q4}",
        _DOMAIN,
        K=width,
        N=rows,
        bits=4,
        block_size=BLOCK,
        accuracy_level=4,
    )
    made.append((head, [shaped, product]))
    return made, constants


def _node(kind: str, given: list[str], out: str, name: str, domain: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(kind, given, [out], name=name, domain=domain, **attributes)
