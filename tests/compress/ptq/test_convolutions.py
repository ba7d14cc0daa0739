"""Networks of convolutions in static int8: what is not kept is in 8 bits, the runtime fuses it and computes about the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.networks import hybrid, images, random_model
from wb.compress.ptq import convolutions
from wb.compress.ptq.calibration import first
from wb.compress.ptq.convolutions import FASTER, slow_in_8_bits, static_products, without
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.sensitivity import sensitivities, speeds
from wb.compress.ptq.static import Static
from wb.compress.ptq.subject import Subject, of_model
from wb.core.errors import BadOption
from wb.export.lowering.products import lowered_nodes
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


def fastest_convolutions(given: Subject, keep: Sequence[str] = ()) -> Static:
    return without(given, INPUTS, keep, slow_in_8_bits(given, INPUTS, Device(), keep))


@cache
def quantized(*keep: str) -> Static:
    return static_products(subject(), INPUTS, keep)


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
    assert not kinds["Conv"] + kinds["FusedConv"] + kinds["Relu"]
    assert kinds["QuantizeLinear"] == 1  # of the images; there is none between a convolution and its rectifier
    assert kinds["QLinearAdd"] == 2  # behind the feed-forwards; the mixers' filters do the others


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


def test_what_is_faster_in_floating_point_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[set[str]] = []

    def measured(graphs: Mapping[str, bytes], *_: object, **__: object) -> dict[str, Any]:
        low = [set(lowered_nodes(onnx.load_from_string(graph))) for graph in graphs.values()]
        timed.extend(low)
        # The stem costs in 8 bits what nothing makes up for, the head a little less than would matter.
        stem, head = (set(subject().groups[group]) for group in ("stem", "head"))
        costs = [10 + bool(stem & one) + 0.1 * bool(head & one) - 0.1 * len(one) for one in low]
        return {name: SimpleNamespace(ratio=SimpleNamespace(value=c)) for name, c in zip(graphs, costs, strict=True)}

    monkeypatch.setattr(convolutions, "measure_latency", measured)
    static = fastest_convolutions(subject())
    assert set(static.groups) == set(subject().groups) - {"stem"}
    assert static.reasons == {"stem": FASTER}
    assert (
        len(timed) == 3 + 2
    )  # from the beginning, behind the stem, from the second stage on; with and without the head
    kept = fastest_convolutions(subject(), ["stem", "head"])
    assert set(kept.groups) == set(subject().groups) - {"stem", "head"}
    assert not kept.reasons


def test_convolutions_with_fixed_ranges_save_their_weights() -> None:
    given, few = replace(subject(), ranges=INPUTS), first(INPUTS, 2)
    measured = sensitivities(given, few, Device(), timed=False, keep=(), found=lambda _: None, report=lambda *_: None)
    saved = {one.group: one.saved for one in measured if given.convolution(one.group)}
    assert saved == {
        group: 3 * sum(given.products[node].numbers for node in given.groups[group])
        for group in given.groups
        if given.convolution(group)
    }


def test_convolutions_with_fixed_ranges_are_timed_together() -> None:
    given = replace(subject(), ranges=INPUTS)
    found = speeds(given, [(group, "int8") for group in given.groups], Device())
    all_of_them = [group for group in given.groups if given.convolution(group)]
    weights = {group: sum(given.products[node].numbers for node in given.groups[group]) for group in all_of_them}
    shares = {group: found[group, "int8"][0] / weights[group] for group in all_of_them}
    assert shares == pytest.approx(dict.fromkeys(all_of_them, shares["stem"]))


@pytest.mark.parametrize(
    ("keep", "words"), [(["neck"], "no group named neck"), (list(subject().groups), "every group")]
)
def test_what_is_refused(keep: list[str], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        static_products(subject(), INPUTS, keep)


@pytest.mark.parametrize("group", ["stem", "head", "s0.b0.ffn.in"])
def test_any_one_group_may_be_the_only_one_in_8_bits(group: str) -> None:
    keep = [other for other in subject().groups if other != group]
    assert fastest_convolutions(subject(), keep).groups == static_products(subject(), INPUTS, keep).groups
