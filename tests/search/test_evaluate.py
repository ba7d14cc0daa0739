"""What is read of a candidate is what is read of its extracted model; its skeleton is built once on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from wb.core.architecture import Architecture
from wb.core.records import ImageInput
from wb.data import Dataset
from wb.export.graph import export
from wb.export.score import score
from wb.hardware.device import Device, parse_device
from wb.models.counting import count_macs, count_parameters
from wb.models.network import Network, skeleton
from wb.search.evaluate import Evaluator
from wb.search.supernet import Supernet
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.tasks.classes import CLASSES


@pytest.fixture
def supernet(image: ImageInput) -> Supernet:
    return Supernet.fresh(Vit(options_with(TINY, {"embed": [8, 16], "depth": [1, 2]}), image, 3), 0)


def test_readings_are_those_of_the_extracted_model(supernet: Supernet, stripes: Dataset, tmp_path: Path) -> None:
    a = supernet.space.smallest()
    found = Evaluator(supernet, stripes, Device(), latency=False)(a).readings
    export(supernet.extract(a, stripes.train), tmp_path / "a.onnx")
    assert found["acc"] == score(tmp_path / "a.onnx", stripes.validation, CLASSES, Device())
    assert found["size"].value == (tmp_path / "a.onnx").stat().st_size
    assert (found["macs"], found["params"]) == (count_macs(a), count_parameters(a))


def test_a_candidate_is_built_once_as_a_skeleton_and_once_with_weights(supernet: Supernet, stripes: Dataset) -> None:
    """And what is around its blocks once, to be counted, for all that have the same around them."""
    evaluate, places = Evaluator(supernet, stripes, Device(), latency=False), []

    def built(network: Network, architecture: Architecture, device: object = None) -> None:
        places.append((device, any(stage.blocks for stage in architecture.stages)))
        original(network, architecture, device)  # type: ignore[arg-type]

    original = Network.__init__
    skeleton.cache_clear()
    with patch.object(Network, "__init__", built):
        evaluate(supernet.space.largest())
    assert places == [("meta", True), (None, True), ("meta", False)]


def test_memory_and_loading_are_read_where_they_are_asked_for(supernet: Supernet, stripes: Dataset) -> None:
    a = supernet.space.smallest()
    found = Evaluator(supernet, stripes, Device(), latency=False, apart=("memory", "load"))(a)
    assert found.readings["memory"].unit == "B"
    assert found.readings["memory"].value > found.readings["size"].value
    assert found.readings["load"].value > 0
    assert found.seconds["load"] > 0
    assert "memory" not in Evaluator(supernet, stripes, Device(), latency=False)(a).readings


def test_the_device_scores_where_it_is_to_while_no_other_process_times(supernet: Supernet, stripes: Dataset) -> None:
    a, held = supernet.space.smallest(), list[str]()

    @contextmanager
    def alone() -> Iterator[None]:
        held.append("taken")
        yield

    device = parse_device("local")
    evaluators = [
        Evaluator(supernet, stripes, one, latency=False, alone=alone) for one in (device, device.scoring("device"))
    ]
    here, there = (evaluate(a).readings["acc"] for evaluate in evaluators)
    assert (here.device, there.device) == (Device().text, device.text)
    assert here.value == there.value
    assert held == ["taken"]
