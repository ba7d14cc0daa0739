"""A small network in floating point with inputs for it, and graphs made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from wb.core.architecture import Architecture, Block, ImageInput, Stage
from wb.core.records import Mlp, PatchStem, Softmax
from wb.models.model import Model, from_network
from wb.models.network import build
from wb.quantization.calibration import Inputs
from wb.quantization.subject import Subject, of_model

Shape = Sequence[int | str]


@cache
def model() -> Model:
    """Two equal blocks with random weights, logits that matter, and widths that are no multiples of 32."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    block = Block(mixer=Softmax(heads=2, qk=12, v=12), ffn=Mlp(mlp=72))
    stem, stage = PatchStem(patch=2), Stage(embed=40, blocks=(block, block))
    architecture = Architecture(input=image, stem=stem, stages=(stage,), classes=3)
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
