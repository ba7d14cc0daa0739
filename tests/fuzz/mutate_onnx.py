"""ONNX files that went wrong, from a seed: a graph with most kinds of parts, and what can be broken in it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax

# Sizes at the ends of what integers hold, and one that is merely too much.
SIZES = [0, -1, 1, 2, 3, 7, 100_000, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63)]
TEXTS = ["", "x", "[/]", "[bold red]", "\x00", "../../etc/passwd", "é" * 40, "w" * 70_000, "\x1b[31m"]
SEPARATE = "com.example"

Broken = Callable[[onnx.ModelProto, random.Random], None]


@cache
def plain() -> onnx.ModelProto:
    """A small classifier of images [n, 1, 8, 8] with a branch, a loop, a function, quantized parts and metadata of wb's."""
    draw = np.random.RandomState(0)

    def floats(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(np.asarray(draw.standard_normal(shape), np.float32), name)

    def whole(name: str, *values: int) -> TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    def value(name: str, kind: int = TensorProto.FLOAT, shape: list[int | str] | None = None) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    node = helper.make_node
    then = helper.make_graph([node("MatMul", ["f", "square"], ["a"])], "then", [], [value("a")])
    other = helper.make_graph([node("Neg", ["f"], ["b"])], "else", [], [value("b")])
    steps = [node("Identity", ["on"], ["still"]), node("Add", ["sum", "one"], ["next"])]
    loop = helper.make_graph(
        steps,
        "loop",
        [value("i", TensorProto.INT64, []), value("on", TensorProto.BOOL, []), value("sum")],
        [value("still", TensorProto.BOOL, []), value("next")],
    )
    nodes = [
        node("Conv", ["x", "kernel"], ["h"], strides=[2, 2]),
        node("Relu", ["h"], ["h1"]),
        node("Flatten", ["h1"], ["f0"]),
        node("Gemm", ["f0", "dense", "bias"], ["f"], transB=1),
        node("If", ["flag"], ["g"], then_branch=then, else_branch=other),
        node("Loop", ["trips", "flag", "g"], ["g1"], body=loop),
        node("Constant", [], ["written"], value=floats("written", 5, 5)),
        node("MatMul", ["g1", "written"], ["g2"]),
        node("Reshape", ["g2", "rows"], ["g3"]),
        node("Slice", ["g3", "start", "end"], ["g4"]),
        node("Concat", ["g4", "g4"], ["g5"], axis=1),
        node("Expand", ["one", "row"], ["e"]),
        node("ConstantOfShape", ["row"], ["zeros"]),
        node("Pad", ["zeros", "edges"], ["padded"]),
        node("Tile", ["padded", "often"], ["tiled"]),
        node("Transpose", ["tiled"], ["turned"], perm=[1, 0]),
        node("ReduceSum", ["turned"], ["sum0"], keepdims=0),
        node("Add", ["g3", "e"], ["g6"]),
        node("Add", ["g6", "sum0"], ["g7"]),
        node("Twice", ["g7"], ["g8"], domain=SEPARATE),
        node("Einsum", ["g8", "square"], ["g9"], equation="ij,jk->ik"),
        node("DynamicQuantizeLinear", ["g9"], ["u", "u_scale", "u_zero"]),
        node("MatMulInteger", ["u", "small", "u_zero"], ["product"]),
        node("Cast", ["product"], ["cast"], to=TensorProto.FLOAT),
        node("Mul", ["u_scale", "small_scale"], ["scale"]),
        node("Mul", ["cast", "scale"], ["scaled"]),
        node("DequantizeLinear", ["tiny", "tiny_scale"], ["shift"]),
        node("Add", ["scaled", "shift"], ["shifted"]),
        node("Softmax", ["shifted"], ["logits"]),
    ]
    eight = draw.randint(-9, 9, (5, 3)).astype(np.int8)
    stored = [
        *(
            floats("kernel", 2, 1, 3, 3),
            floats("dense", 5, 18),
            floats("bias", 5),
            floats("square", 5, 5),
            floats("one"),
        ),
        *(
            whole("rows", -1, 5),
            whole("row", 1, 5),
            whole("start", 0, 0),
            whole("end", 9, 4),
            whole("edges", 0, 0, 0, 2),
        ),
        *(whole("often", 2, 2), numpy_helper.from_array(np.array(2, np.int64), "trips")),
        numpy_helper.from_array(np.array(True), "flag"),
        *(numpy_helper.from_array(eight, "small"), floats("small_scale", 1)),
        *(numpy_helper.from_array(eight[0], "tiny"), floats("tiny_scale")),
    ]
    taken = [value("x", shape=["n", 1, 8, 8])]
    graph = helper.make_graph(nodes, "g", taken, [value("logits", shape=["n", 3])], stored)
    twice = helper.make_function(
        SEPARATE, "Twice", ["v"], ["w"], [node("Add", ["v", "v"], ["w"])], [helper.make_opsetid("", 20)]
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(SEPARATE, 1), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, functions=[twice])
    stage = Stage(embed=8, blocks=(Block(mixer=Softmax(heads=2, qk=3, v=4), ffn=Mlp(mlp=9)),))
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    ours = assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=3)
    helper.set_model_props(model, {"wb.architecture": ours.to_json(), "wb.history": json.dumps([])})
    return model


def mutated(seed: int) -> bytes:
    """The file of `plain` with one to three things broken; of every fourth seed its bytes as well."""
    rng = random.Random(seed)
    model = onnx.ModelProto()
    model.CopyFrom(plain())
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(BREAKS)(model, rng)
    content = bytearray(model.SerializeToString())
    if seed % 4 == 0:
        for _ in range(rng.randrange(1, 8)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if seed % 8 == 1:
        del content[rng.randrange(len(content)) :]
    return bytes(content)


# --------------------------------------------------------------------------------------------------------------- breaks


def _node(model: onnx.ModelProto, rng: random.Random) -> NodeProto:
    """One of the main graph, of a body or of a function."""
    nodes = list(model.graph.node)
    for attribute in (attribute for node in model.graph.node for attribute in node.attribute):
        nodes.extend(attribute.g.node if attribute.HasField("g") else ())
    found: NodeProto = rng.choice([*nodes, *(node for function in model.functions for node in function.node)])
    return found


def _name(model: onnx.ModelProto, rng: random.Random) -> str:
    """One that is used somewhere, or none that is."""
    made = [name for node in model.graph.node for name in node.output]
    found: str = rng.choice([*made, *(tensor.name for tensor in model.graph.initializer), *TEXTS])
    return found


def _attribute(model: onnx.ModelProto, rng: random.Random) -> AttributeProto:
    node = _node(model, rng)
    if not node.attribute:
        node.attribute.append(helper.make_attribute(rng.choice(("axis", "to", "K", "transA", "value_float")), 1))
    found: AttributeProto = rng.choice(list(node.attribute))
    return found


def _dims(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    if tensor.dims and rng.random() < 0.8:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
    else:
        tensor.dims.append(rng.choice(SIZES))


def _kind(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.randrange(27)


def _numbers(model: onnx.ModelProto, rng: random.Random) -> None:
    """Other numbers of the same length: shapes, pads and trips among them."""
    tensor = rng.choice(model.graph.initializer)
    length = len(tensor.raw_data)
    tensor.raw_data = np.array([rng.choice(SIZES) for _ in range(length // 8 + 1)], np.int64).tobytes()[:length]


def _fewer(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]


def _outside(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, options in (("location", TEXTS), ("offset", [*map(str, SIZES), "x"]), ("length", [*map(str, SIZES), ""])):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=rng.choice(options))


def _operator(model: onnx.ModelProto, rng: random.Random) -> None:
    others = [
        "LSTM",
        "ConvTranspose",
        "QLinearConv",
        "MatMulNBits",
        "Scan",
        "SequenceConstruct",
        "Attention",
        "Mystery",
    ]
    _node(model, rng).op_type = rng.choice([*others, *(node.op_type for node in model.graph.node)])


def _domain(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).domain = rng.choice(("com.microsoft", "ai.onnx.ml", "ai.onnx", SEPARATE, "[/]"))


def _reads(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if node.input and rng.random() < 0.7:
        node.input[rng.randrange(len(node.input))] = _name(model, rng)
    elif node.input and rng.random() < 0.5:
        del node.input[rng.randrange(len(node.input))]
    else:
        node.input.append(_name(model, rng))


def _writes(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if rng.random() < 0.7 and node.output:
        node.output[0] = _name(model, rng)
    else:
        del node.output[:]


def _value(model: onnx.ModelProto, rng: random.Random) -> None:
    attribute = _attribute(model, rng)
    attribute.i = rng.choice(SIZES)
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIZES)
    if attribute.HasField("t") and attribute.t.dims:
        attribute.t.dims[0] = rng.choice(SIZES)
    if attribute.HasField("s"):
        attribute.s = rng.choice((b"ij->", b"\xff", b"ij,jk,kl->il", b"...,...", b"ii,jj->"))


def _unlike(model: onnx.ModelProto, rng: random.Random) -> None:
    """An attribute of another type or name, twice, or none."""
    attribute = _attribute(model, rng)
    what = rng.randrange(3)
    if what == 0:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif what == 1:
        attribute.name = rng.choice(TEXTS)
    else:
        del _node(model, rng).attribute[:]


def _input(model: onnx.ModelProto, rng: random.Random) -> None:
    kind = model.graph.input[0].type
    what = rng.randrange(5)
    if what == 0 and kind.tensor_type.shape.dim:
        rng.choice(kind.tensor_type.shape.dim).dim_value = rng.choice(SIZES)
    elif what == 1:
        kind.tensor_type.elem_type = rng.randrange(27)
    elif what == 2:
        model.graph.input.append(
            helper.make_tensor_value_info(rng.choice(TEXTS), rng.randrange(20), [rng.choice(SIZES)])
        )
    elif what == 3:
        kind.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    else:
        kind.Clear()


def _version(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5 and model.opset_import:
        model.opset_import[rng.randrange(len(model.opset_import))].version = rng.choice([*range(27), *SIZES])
    elif rng.random() < 0.5:
        model.ir_version = rng.choice([*range(12), *SIZES])
    else:
        del model.opset_import[:]


def _metadata(model: onnx.ModelProto, rng: random.Random) -> None:
    entry = rng.choice(model.metadata_props)
    half = entry.value[: rng.randrange(len(entry.value) + 1)]
    entry.value = rng.choice(("", "[", "{}", "[1]", "null", "[" * 100_000, '[{"name": 1}]', half, *TEXTS))


def _order(model: onnx.ModelProto, rng: random.Random) -> None:
    """A node twice, or in another place, so that something is read before it is made."""
    nodes = list(model.graph.node)
    nodes.insert(rng.randrange(len(nodes)), nodes[rng.randrange(len(nodes))])
    if rng.random() < 0.5:
        nodes.remove(rng.choice(nodes))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _calls(model: onnx.ModelProto, rng: random.Random) -> None:
    """A function that calls itself, or one that calls one that calls one, each twice."""
    call = helper.make_node("Twice", ["v"], ["w"], domain=SEPARATE)
    if rng.random() < 0.5:
        model.functions[0].node.append(call)
        return
    deep = rng.choice((3, 60, 200))
    for i in range(deep):
        inner = "Twice" if i == 0 else f"Twice{i}"
        nodes = [helper.make_node(inner, [a], [b], domain=SEPARATE) for a, b in (("v", "m"), ("m", "w"))]
        imports = [helper.make_opsetid("", 20), helper.make_opsetid(SEPARATE, 1)]
        model.functions.append(helper.make_function(SEPARATE, f"Twice{i + 1}", ["v"], ["w"], nodes, imports))
    model.graph.node[19].op_type = f"Twice{deep}"


BREAKS: tuple[Broken, ...] = (
    *(_dims, _kind, _numbers, _numbers, _fewer, _outside, _operator, _domain, _reads, _writes, _value, _unlike),
    *(_input, _version, _metadata, _order, _calls),
)
