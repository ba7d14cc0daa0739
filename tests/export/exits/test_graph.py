"""Graphs with early exits: `If` computes what torch does, in every way out, and the rest is said where it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.exiting import KINDS, given, images
from wb.core.errors import BadArtefact, Unsupported
from wb.core.measures.readings import Reading
from wb.data import load
from wb.export.exits.graph import export_exiting
from wb.export.exits.stream import spread, stream_latency
from wb.export.exits.ways import expected, forced, graph_exits, refuse_exits
from wb.export.graph import export
from wb.export.run import Runner
from wb.hardware.device import Device, session
from wb.models.exits.module import Exiting


@pytest.fixture(scope="module", params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Exiting, Path]:
    """A network of either kind and its graph."""
    model, path = given(request.param), tmp_path_factory.mktemp("graph") / "e.onnx"
    assert export_exiting(model, path).value < 1e-4
    return model, path


@torch.no_grad()
def test_every_way_out_of_the_graph_is_torchs(written: tuple[Exiting, Path]) -> None:
    model, path = written
    network, pixels = model.network(), images(model.trunk, 8)
    answers = network.everything(pixels)
    run = session(path, Device())
    exits = [int(run.run(["exit"], {"pixel_values": one.numpy()})[0][0]) for one in pixels.split(1)]
    assert exits == network.left_at(answers).tolist()
    assert np.abs(Runner(path, Device())({"pixel_values": pixels.numpy()}) - network(pixels).numpy()).max() < 1e-4
    for k in range(len(answers)):
        always = session(forced(path, k), Device())
        logits, exit_ = always.run(["logits", "exit"], {"pixel_values": pixels[:1].numpy()})
        assert (exit_.tolist(), np.abs(logits - answers[k][:1].numpy()).max() < 1e-4) == ([k], True)


def test_a_graph_that_is_never_left_gives_the_logits_of_the_one_without(
    written: tuple[Exiting, Path], tmp_path: Path
) -> None:
    model, path = written
    export(model.trunk, tmp_path / "a.onnx")
    pixels = {"pixel_values": images(model.trunk, 1).numpy()}
    never = session(forced(path, len(model.record.after)), Device()).run(["logits"], pixels)[0]
    assert np.abs(never - session(tmp_path / "a.onnx", Device()).run(["logits"], pixels)[0]).max() < 1e-6


def test_the_rest_is_within_branches_and_the_graph_says_what_it_is(written: tuple[Exiting, Path]) -> None:
    model, path = written
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    branches = [node for node in graph.graph.node if node.op_type == "If"]
    assert len(branches) == 1
    inside = [node.op_type for attribute in branches[0].attribute for node in attribute.g.node]
    assert "If" in inside, "the second exit is within the first one's branch"
    assert graph_exits(path) == model.record
    with pytest.raises(Unsupported, match="has early exits, and quantization works on graphs that have one way"):
        refuse_exits(path, "quantization")


def test_a_graph_without_exits_has_no_ways(written: tuple[Exiting, Path], tmp_path: Path) -> None:
    export(written[0].trunk, tmp_path / "a.onnx")
    assert graph_exits(tmp_path / "a.onnx") is None
    with pytest.raises(BadArtefact, match="no graph with early exits"):
        forced(tmp_path / "a.onnx", 0)


def test_latency_over_examples_is_of_all_graphs_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wb.export.exits.stream.PRECISION", 1e9)
    model, path = given("tokens"), tmp_path / "e.onnx"
    export_exiting(model, path)
    split = load("digits").test
    found = stream_latency({"a": path, "b": path}, split, Device(), examples=10)
    assert found["a"].ratio.value == 1
    assert found["b"].reading.value > 0
    assert "mean over 10 examples" in str(found["a"].reading.note)


def test_expected_latency_is_the_mean_of_the_ways_that_examples_go() -> None:
    costs = [Reading(value=value, unit="ms", how="measured") for value in (1.0, 4.0)]
    assert expected(costs, np.array([0, 0, 1, 0])).value == pytest.approx(1.75)
    assert spread(10, 4).tolist() == [0, 3, 6, 9]
    assert spread(3, 8).tolist() == [0, 1, 2]
