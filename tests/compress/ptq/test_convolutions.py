"""Networks of convolutions in static int8: what is not kept is in 8 bits, the runtime fuses it and computes about the same."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.networks import hybrid, images, random_model
from wb.compress.ptq.convolutions import static_convolutions
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.static import Static
from wb.compress.ptq.subject import Subject, of_model
from wb.core.errors import BadOption
from wb.hardware.device import Device
from wb.models.model import from_network
from wb.training.statistics import find_from

A = hybrid()
INPUTS = {"pixel_values": images(A, 32).numpy()}


@cache
def subject() -> Subject:
    network = random_model(A, gain=1.0).network()
    find_from(network, [images(A, 32)])
    return of_model(from_network(A, network))


@cache
def quantized(*keep: str) -> Static:
    return static_convolutions(subject(), INPUTS, keep)


def test_every_group_is_in_8_bits_and_every_convolution_runs_in_them(tmp_path: Path) -> None:
    static = quantized()
    assert set(static.groups) == set(subject().groups)
    assert not static.reasons
    onnx.save(static.graph, tmp_path / "int8.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "run.onnx"), 4
    ort.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node)
    assert kinds["QLinearConv"] == sum(product.convolution for product in subject().products.values())
    assert not kinds["Conv"] + kinds["FusedConv"]


def test_it_computes_about_the_same() -> None:
    before, after = (outputs(graph, INPUTS, Device()) for graph in (subject().graph, quantized().graph))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98


def test_what_is_kept_stays() -> None:
    kept = ("s0.b1.ffn.in", "head")
    static = quantized(*kept)
    assert set(static.groups) == set(subject().groups) - set(kept)
    weights = {tensor.name: tensor.data_type for tensor in static.graph.graph.initializer}
    for group in kept:
        for node in subject().groups[group]:
            assert weights[subject().products[node].weight] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("keep", "words"), [(["neck"], "no group named neck"), (list(subject().groups), "every group")]
)
def test_what_is_refused(keep: list[str], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        static_convolutions(subject(), INPUTS, keep)
