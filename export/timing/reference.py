"""Fixed graphs for timing: the reference graph, a graph that measures the runtime's overhead, and transformers of any size.

Latencies are ratios to the reference graph, timed at the same moment. So the reference must never change; a test checks its
digest. Its weights are small (0.1 MB) and most of its time goes into activations. Graphs with 0.2 to 0.8 MB of weights varied
twice as much between processes on a busy machine, because other processes push their weights out of the level-2 cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

REFERENCE = (128, 16, 6)  # tokens, channels, layers: about 0.16 ms on one thread of a server of 2024


@cache
def reference_graph() -> bytes:
    """The graph that every latency is relative to, as the bytes of an ONNX file."""
    return transformer_graph(*REFERENCE)


@cache
def overhead_graph() -> bytes:
    """A graph that computes nothing (one `Identity` of one number): its latency is the overhead of a call of the runtime."""
    from onnx import helper

    node = helper.make_node("Identity", ["x"], ["y"])
    return _model([node], "overhead", [], ["batch", 1], "y")


def transformer_graph(tokens: int, embed: int, layers: int) -> bytes:
    """A pre-norm transformer with one head per layer and four-fold MLPs, with weights from a fixed seed, in opset 20.

    Its input `x` and its output are (batch, tokens, embed), float32; the batch is dynamic.
    """
    from onnx import helper, numpy_helper

    rng = np.random.RandomState(0)  # numpy guarantees that this stream never changes, unlike that of default_rng
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []

    def weight(*shape: int) -> str:
        values = rng.randint(-1000, 1001, size=shape) / 1000 / np.sqrt(shape[0])  # no libm: the same bits everywhere
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(weights)}"))
        return str(weights[-1].name)

    def add(op: str, *inputs: str, perm: Sequence[int] | None = None) -> str:
        nodes.append(helper.make_node(op, list(inputs), [f"h{len(nodes)}"]))
        if perm is not None:
            nodes[-1].attribute.append(helper.make_attribute("perm", list(perm)))
        return str(nodes[-1].output[0])

    x = "x"
    for _ in range(layers):
        y = add("LayerNormalization", x, weight(embed), weight(embed))
        q, k, v = (add("MatMul", y, weight(embed, embed)) for _ in range(3))
        scores = add("Softmax", add("MatMul", q, add("Transpose", k, perm=(0, 2, 1))))
        x = add("Add", x, add("MatMul", add("MatMul", scores, v), weight(embed, embed)))
        y = add("LayerNormalization", x, weight(embed), weight(embed))
        y = add("Gelu", add("MatMul", y, weight(embed, 4 * embed)))
        x = add("Add", x, add("MatMul", y, weight(4 * embed, embed)))
    return _model(nodes, "transformer", weights, ["batch", tokens, embed], x)


def _model(
    nodes: Sequence[NodeProto], name: str, weights: Sequence[TensorProto], shape: list[int | str], out: str
) -> bytes:
    """The serialised model with input `x` and output `out` of the same shape."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)
    graph = helper.make_graph(list(nodes), name, [x], [y], initializer=list(weights))
    # IR version 9 belongs to opset 20. The installed onnx would write a newer one, which older runtimes refuse.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, producer_name="wb")
    return bytes(model.SerializeToString(deterministic=True))
