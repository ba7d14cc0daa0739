"""What is quantized: the groups of models and of foreign graphs, and that only what was chosen changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from torch import nn

from tests.compress.ptq.graphs import inputs, model, relu_graph, subject
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.subject import of_graph, of_model
from wb.core.errors import BadArtefact, BadOption
from wb.core.precision import precisions, with_precisions
from wb.core.records import Precision
from wb.export.graph import export, export_module
from wb.export.lowering.products import linear_nodes
from wb.hardware.device import Device
from wb.models.model import Model


def foreign(path: Path) -> Path:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 3))
    export_module(network, {"image": torch.rand(1, 1, 8, 8)}, path, "out")
    return path


def weights(graph: onnx.ModelProto) -> dict[str, bytes]:
    """The float weights of each node."""
    tensors = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.graph.initializer}
    return {node: tensors[name] for node, name in linear_nodes(graph).items()}


def test_a_model_has_the_groups_of_its_architecture() -> None:
    given = subject()
    assert list(given.groups) == list(precisions(model().architecture))
    nodes = [node for group in given.groups.values() for node in group]
    assert sorted(nodes) == sorted(linear_nodes(given.graph))
    assert len(nodes) == 2 * 6 + 2
    assert given.options["stem"] == ("int8", "fp32")
    assert given.options["head"] == ("int4", "int8", "fp32")


def test_precisions_of_the_model_are_left_behind() -> None:
    low = Model(with_precisions(model().architecture, {"head": "int8"}), model().weights)
    assert weights(of_model(low).graph) == weights(subject().graph)
    binary = Model(with_precisions(model().architecture, {"s0.b0.ffn.in": "w1"}), model().weights)
    with pytest.raises(BadOption, match="binary or ternary"):
        of_model(binary)


def test_only_what_was_chosen_changes() -> None:
    given = subject()
    before = given.graph.SerializeToString(deterministic=True)
    lowered = given.lowered({"s0.b0.ffn.in": "int8", "s0.b1.mixer.in": "int4", "head": "fp32"})
    gone = {*given.groups["s0.b0.ffn.in"], *given.groups["s0.b1.mixer.in"]}
    assert weights(lowered) == {node: value for node, value in weights(given.graph).items() if node not in gone}
    assert given.graph.SerializeToString(deterministic=True) == before
    assert np.array_equal(outputs(given.lowered({}), inputs(), Device()), outputs(given.graph, inputs(), Device()))


def test_lowered_graphs_carry_nothing_of_no_use() -> None:
    """Types of every tensor, which quantizers leave behind."""
    for precision in ("int8", "int4"):
        assert not subject().lowered({"head": precision}).graph.value_info


def test_choices_that_cannot_be() -> None:
    with pytest.raises(BadOption, match=r"no group named neck; there are stem, s0\.b0"):
        subject().lowered({"neck": "int8"})
    with pytest.raises(BadOption, match="stem cannot be kept in int4; it takes int8, fp32"):
        subject().lowered({"stem": "int4"})


def test_a_foreign_graph(tmp_path: Path) -> None:
    path = foreign(tmp_path / "foreign.onnx")
    given = of_graph(path)
    assert given.model is None
    assert all(nodes == (group,) for group, nodes in given.groups.items())
    assert list(given.options.values()) == [("int8", "fp32"), ("int4", "int8", "fp32"), ("int4", "int8", "fp32")]
    image = {"image": np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)}
    assert np.allclose(outputs(given.graph, image, Device()), outputs(path, image, Device()), atol=1e-6)
    lowered = given.lowered({group: options[0] for group, options in given.options.items()})
    assert np.allclose(outputs(lowered, image, Device()), outputs(path, image, Device()), atol=0.2)


def test_our_own_file_is_a_graph_like_any_other(tmp_path: Path) -> None:
    export(model(), tmp_path / "own.onnx")
    assert len(of_graph(tmp_path / "own.onnx").groups) == len(linear_nodes(subject().graph))


def test_graphs_with_nothing_to_quantize(tmp_path: Path) -> None:
    onnx.save(relu_graph({"x": ["n", 2]}), tmp_path / "relu.onnx")
    with pytest.raises(BadOption, match="nothing to quantize"):
        of_graph(tmp_path / "relu.onnx")
    graph = onnx.load(foreign(tmp_path / "whole.onnx"))
    onnx.save(graph, tmp_path / "beside.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(BadOption, match="in another file"):
        of_graph(tmp_path / "beside.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(BadArtefact, match="no ONNX graph"):
        of_graph(tmp_path / "text.onnx")


@pytest.mark.parametrize("precision", ["int8", "int4", "w1"])
def test_a_graph_that_is_quantized_already_is_no_float_one(precision: Precision, tmp_path: Path) -> None:
    path, float_ = tmp_path / "q.onnx", model()
    export(Model(with_precisions(float_.architecture, {"head": precision}), float_.weights), path)
    with pytest.raises(BadOption, match="is quantized already"):
        of_graph(path)


@pytest.mark.parametrize("where", ["initializer", "Constant", "branch", "function"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.float16(1), "weights in 16 bits"),
        (np.float64(1), "weights in 64 bits"),
        (np.float32("nan"), "NaN or infinite weights"),
        (np.float32("inf"), "NaN or infinite weights"),
    ],
)
def test_weights_that_no_quantizer_takes_are_named(tmp_path: Path, value: np.generic, words: str, where: str) -> None:
    """With the same words wherever they are: quantizers pass over doubles without a word."""
    weight = numpy_helper.from_array(np.full((4, 3), value), "weight")
    constant = [helper.make_node("Constant", [], ["weight"], value=weight)]
    x, y, inner = (
        helper.make_tensor_value_info(name, weight.data_type, ["n", size])
        for name, size in (("x", 4), ("y", 3), ("inner", 3))
    )
    product = helper.make_node("MatMul", ["x", "weight"], ["y"])
    functions = []
    match where:
        case "initializer":
            graph = helper.make_graph([product], "g", [x], [y], initializer=[weight])
        case "Constant":
            graph = helper.make_graph([*constant, product], "g", [x], [y])
        case "function":
            within = helper.make_node("MatMul", ["x", "weight"], ["y"])
            imports = [helper.make_opsetid("", 17)]
            functions = [helper.make_function("d", "F", ["x"], ["y"], [*constant, within], imports)]
            graph = helper.make_graph([helper.make_node("F", ["x"], ["y"], domain="d")], "g", [x], [y])
        case _:
            within = helper.make_node("MatMul", ["x", "weight"], ["inner"])
            arms = [helper.make_graph([*constant, within], "arm", [], [inner]) for _ in range(2)]
            flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [1])
            choice = helper.make_node("If", ["flag"], ["y"], then_branch=arms[0], else_branch=arms[1])
            graph = helper.make_graph([choice], "g", [x, flag], [y])
    path = tmp_path / "g.onnx"
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9, functions=functions), path)
    with pytest.raises(BadOption, match=words):
        of_graph(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cast", r"weights in 16 bits \(k\)"),
        ("quantized", "is quantized already"),
        ("outside", "lie in another file"),
        ("numbers", r"NaN or infinite weights, in k"),
        ("sparse", r"NaN or infinite weights, in k"),
    ],
)
def test_constants_are_seen_wherever_a_file_keeps_them(tmp_path: Path, kind: str, words: str) -> None:
    """Inside a function, as numbers of an attribute and as what a sparse one stores."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.int8 if kind == "quantized" else np.float16))
    match kind:
        case "outside":
            weight = numpy_helper.from_array(np.ones((4, 3), np.float32))
            (tmp_path / "w.bin").write_bytes(weight.raw_data)
            set_external_data(weight, "w.bin")
            weight.ClearField("raw_data")
            nodes = [helper.make_node("Constant", [], ["f"], value=weight)]
        case "numbers":
            nodes = [helper.make_node("Constant", [], ["k"], value_floats=[float("nan")] * 12)]
            nodes += [helper.make_node("Constant", [], ["shape"], value_ints=[4, 3])]
            nodes += [helper.make_node("Reshape", ["k", "shape"], ["f"])]
        case "sparse":
            numbers = numpy_helper.from_array(np.array([np.nan], np.float32), "k")
            sparse = helper.make_sparse_tensor(numbers, numpy_helper.from_array(np.array([2])), [4, 3])
            nodes = [helper.make_node("Constant", [], ["k"], sparse_value=sparse)]
            nodes += [helper.make_node("Identity", ["k"], ["f"])]
        case _:
            nodes = [helper.make_node("Constant", [], ["k"], value=weight)]
            scale = numpy_helper.from_array(np.array(1, np.float32))
            nodes += [helper.make_node("Constant", [], ["s"], value=scale)]
            low = helper.make_node("DequantizeLinear", ["k", "s"], ["f"])
            nodes += [low if kind == "quantized" else helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", ["x", "f"], ["y"])]
    function = helper.make_function("d", "F", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 3)))
    graph = helper.make_graph([helper.make_node("F", ["x"], ["y"], domain="d")], "g", [x], [y])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    path = tmp_path / "g.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=imports, ir_version=9, functions=[function]).SerializeToString()
    )
    with pytest.raises(BadOption, match=words):
        of_graph(path)


def test_masks_may_be_infinite(tmp_path: Path) -> None:
    """What hides tokens from others is minus infinity, and is no weight; doubles that are cast are float32."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float64), "weight")
    mask = numpy_helper.from_array(np.array([0, 0, 0, -np.inf], np.float32), "mask")
    nodes = [
        helper.make_node("Cast", ["weight"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "cast"], ["h"], name="product"),
        helper.make_node("Add", ["h", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=[weight, mask])
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    assert of_graph(path).options == {"product": ("int4", "int8", "fp32")}


def test_what_cannot_be_lowered_says_why(tmp_path: Path) -> None:
    """Operators without a kernel in fewer bits are groups, too; choosing them is refused with the reason."""
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 24, 4), "r": (1, 24, 6), "e": (6, 5), "k": (2, 3, 3), "v": (3,)}
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["h"], name="lstm", hidden_size=6),
        helper.make_node("Squeeze", ["h"], ["s"]),
        helper.make_node("Einsum", ["s", "e"], ["t"], name="einsum", equation="ab,bc->ac"),
        helper.make_node("Unsqueeze", ["t", "zero"], ["u"]),
        helper.make_node("ConvTranspose", ["u", "k"], ["c"], name="up"),
        helper.make_node("MatMul", ["c", "v"], ["y"], name="vector"),
    ]
    tensors.append(numpy_helper.from_array(np.array([0]), "zero"))
    nodes[-1].input[0] = "sliced"
    nodes.insert(-1, helper.make_node("Slice", ["c", "zero", "three", "two"], ["sliced"]))
    tensors += [numpy_helper.from_array(np.array([value]), name) for name, value in (("three", 3), ("two", 2))]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=tensors)
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    subject = of_graph(path)
    assert subject.refusals == {
        "lstm": "LSTM has no kernel in fewer bits",
        "einsum": "Einsum has no kernel in fewer bits",
        "up": "ConvTranspose has no kernel in fewer bits",
        "vector": "its weights are a vector",
    }
    assert {name: product.numbers for name, product in subject.products.items()} == {
        "lstm": 240,
        "einsum": 30,
        "up": 18,
        "vector": 3,
    }
    with pytest.raises(BadOption, match=r"up cannot be kept in int8 \(ConvTranspose has no kernel.*it takes fp32"):
        subject.lowered({"up": "int8"})
