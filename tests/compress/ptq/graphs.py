"""A small network in floating point with inputs for it, and graphs made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.networks import assembled
from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.subject import Subject, of_model
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.models.model import Model, from_network
from wb.models.network import build

Shape = Sequence[int | str]


@cache
def model() -> Model:
    """Two equal blocks with random weights, logits that matter, and widths that are no multiples of 32."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    block = Block(mixer=Softmax(heads=2, qk=12, v=12), ffn=Mlp(mlp=72))
    stem, stage = PatchStem(patch=2), Stage(embed=40, blocks=(block, block))
    architecture = assembled(input=image, stem=stem, stages=(stage,), classes=3)
    network = build(architecture)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network.reset()
        with torch.no_grad():
            network.get_parameter("head").normal_()
    return from_network(architecture, network)


@cache
def subject() -> Subject:
    """The model's; not to be changed."""
    return of_model(model())


@cache
def inputs() -> Inputs:
    """16 random images for it."""
    return {"pixel_values": np.random.default_rng(0).random((16, 1, 8, 8), dtype=np.float32)}


def relu_graph(shapes: Mapping[str, Shape], kind: int = TensorProto.FLOAT, opset: int = 20) -> onnx.ModelProto:
    """A graph that takes tensors of these shapes and gives the first one, through a Relu."""
    taken = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    name, shape = next(iter(shapes.items()))
    given = [helper.make_tensor_value_info("out", kind, shape)]
    graph = helper.make_graph([helper.make_node("Relu", [name], ["out"], name="relu")], "by_hand", taken, given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def two_products(path: Path) -> Path:
    """Two products that another exporter may have written, from four numbers to five classes."""
    rng = np.random.default_rng(0)
    shapes = {"a": (4, 8), "b": (8, 5)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"], name="first"),
        helper.make_node("Relu", ["y"], ["z"], name="relu"),
        helper.make_node("MatMul", ["z", "b"], ["scores"], name="second"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("x", 4), ("scores", 5))]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.metadata_props.add(key="whose", value="another's")
    onnx.save(model, path)
    return path


def branched(path: Path) -> Path:
    """Weights on the left of a product, then a branch with a product in each arm."""
    rng = np.random.default_rng(0)
    sizes = {"l": (3, 3), "u": (4, 4), "v": (4, 4)}
    tensors = [numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in sizes.items()]
    tensors.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    arms = []
    for name, weights, out in (("inside", "u", "a"), ("other", "v", "b")):
        given = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["n", 3, 4])
        arms.append(
            helper.make_graph([helper.make_node("MatMul", ["y", weights], [out], name=name)], "arm", [], [given])
        )
    nodes = [
        helper.make_node("MatMul", ["l", "x"], ["y"], name="left"),
        helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["out"], then_branch=arms[0], else_branch=arms[1]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 4]) for name in ("x", "out")]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
