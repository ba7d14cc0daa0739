"""Foreign graphs, drawn: folding keeps what they compute, every product is a group, and a file is what was chosen."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.compress.ptq.generated import TOKENS, Drawn, Expected
from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.subject import Subject, of_graph
from wb.compress.quantize.source import Source
from wb.core.records import Precision
from wb.export.lowering import scopes
from wb.export.lowering.products import loose, products
from wb.hardware.device import Device

SEEDS = range(16)


@pytest.fixture(scope="module", params=SEEDS)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Drawn, Path, Subject]:
    made = Drawn(request.param)
    path = tmp_path_factory.mktemp("drawn") / "g.onnx"
    onnx.save(made.model(), path)
    return made, path, of_graph(path)


@cache
def images(width: int) -> Inputs:
    return {"x": np.random.default_rng(0).normal(size=(6, TOKENS, width)).astype(np.float32)}


def apart(path: Path, graph: onnx.ModelProto, given: Inputs) -> float:
    """The relative squared error of the median example: rounding takes some to the other branch of an If."""
    before, after = (outputs(one, given, Device()) for one in (path, graph))
    noise, power = ((values**2).sum(axis=(1, 2)) for values in (after - before, before))
    return float(np.median(noise / power))


def kinds(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for _, node in scopes.nodes(graph.graph))


def weights(graph: onnx.ModelProto) -> dict[str, bytes]:
    """The float weights of each product."""
    tensors = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.graph.initializer}
    return {name: tensors[product.weight] for name, product in products(graph).items()}


def test_folding_keeps_the_function(drawn: tuple[Drawn, Path, Subject]) -> None:
    made, path, subject = drawn
    onnx.checker.check_model(subject.graph, full_check=True)
    given = images(made.taken)
    assert compare(outputs(path, given, Device()), outputs(subject.graph, given, Device())).sqnr > 90
    names = [node.name for _, node in scopes.nodes(subject.graph.graph)]
    assert all(names)
    assert len(set(names)) == len(names)


def test_every_product_is_a_group(drawn: tuple[Drawn, Path, Subject]) -> None:
    made, _, subject = drawn
    found = [Expected(p.numbers, "int8" in p.options, "int4" in p.options) for p in subject.products.values()]
    assert Counter(found) == Counter(made.expected)
    assert subject.refusals.keys() == {name for name, options in subject.options.items() if options == ("fp32",)}
    every = sum(values.size for values in made.constants.values() if values.dtype.kind == "f")
    assert 0 <= loose(subject.graph) < every or every == 0


def test_a_file_is_what_was_chosen(drawn: tuple[Drawn, Path, Subject]) -> None:
    """Any mixture: as many integer products as were chosen, and the others' weights as they were."""
    made, path, subject = drawn
    draw = random.Random(made.seed)
    choice: dict[str, Precision] = {g: draw.choice(options) for g, options in subject.options.items()}
    graph = subject.lowered(choice)
    onnx.checker.check_model(graph)
    count = Counter(choice.values())
    assert kinds(graph)["MatMulInteger"] == count["int8"]
    assert kinds(graph)["MatMulNBits"] == count["int4"]
    before = weights(subject.graph)
    assert weights(graph) == {name: before[name] for name, precision in choice.items() if precision == "fp32"}
    assert apart(path, graph, images(made.taken)) < 0.3


def test_all_in_eight_bits_is_close(drawn: tuple[Drawn, Path, Subject]) -> None:
    made, path, subject = drawn
    choice = Source(subject, path, None, None, frozenset()).uniform("int8")
    assert apart(path, subject.lowered(choice), images(made.taken)) < 0.02
