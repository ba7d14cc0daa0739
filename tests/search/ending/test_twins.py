"""Which finalists have twins, what those are called, and what those in 8 bits compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.networks import hybrid, images, random_model
from wb.compress.ptq.outputs import outputs
from wb.core.errors import Unsupported
from wb.core.measures.readings import Reading
from wb.core.precision import precisions
from wb.data import Dataset
from wb.data.split import Images
from wb.export.graph import export, read_architecture
from wb.export.timing.measure import Latency
from wb.hardware.device import Device
from wb.models.model import Model, from_network
from wb.models.passes.mirror import Mirror
from wb.search.ending.twins import Made, ids, lowering, mirroring, remade
from wb.training.statistics import find_from

A = hybrid()
INPUTS = {"pixel_values": images(A, 32).numpy()}


def written(model: Model, path: Path) -> None:
    """Writes the graph."""
    export(model, path, force=True)


@given(st.sets(st.integers(0, 10**6), min_size=1), st.integers(0, 10**6))
def test_no_twin_has_the_number_of_a_candidate(numbers: set[int], most: int) -> None:
    found = ids(numbers, most)
    assert found.keys() == numbers
    assert len(set(found.values())) == len(numbers)
    assert min(found.values()) > max(most, *numbers)


def test_they_are_told_from_their_finalists_by_a_digit() -> None:
    assert ids([0, 37], 60) == {0: 1000, 37: 1037}
    assert ids([5], 1234) == {5: 10005}


def test_those_trained_on_mirror_images_have_one(striped: Model, tmp_path: Path) -> None:
    seeing = Mirror()(striped)
    models = {3: striped, 4: striped, 5: seeing}
    made = {n: Made(n, one, tmp_path / f"{n}.onnx", one.architecture) for n, one in models.items()}
    found = dict(mirroring(made, flipped=[3, 5], most=60, write=written))
    assert {twin: (one.number, one.mirrored, one.low) for twin, one in found.items()} == {1003: (3, True, False)}
    assert found[1003].architecture == seeing.architecture
    assert found[1003].path.exists()


@pytest.fixture(scope="module")
def mapped() -> tuple[Model, Dataset]:
    """A network with a stage of maps, and images for it."""
    network = random_model(A, gain=1.0).network()
    find_from(network, [images(A, 32)])
    split = Images(images(A, 40).numpy(), np.arange(40) % 3)
    return from_network(A, network), Dataset("random", "random", split, split, split, ("a", "b", "c"), "0")


def by_name(low: float) -> Callable[..., dict[str, Latency]]:
    """A clock for which the graph in 8 bits takes `low` ms, any other 1."""

    def timed(graphs: Mapping[str, object], *_: object, **__: object) -> dict[str, Latency]:
        times = {name: low if name == "low" else 1.0 for name in graphs}
        readings = {name: Reading(value=time, unit="ms", how="measured") for name, time in times.items()}
        return {name: Latency(reading, reading, 1, 0, reading.value) for name, reading in readings.items()}

    return timed


@pytest.mark.parametrize("faster", [True, False])
def test_those_of_convolutions_have_one_in_8_bits_where_it_is_faster(
    mapped: tuple[Model, Dataset], striped: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    monkeypatch.setattr("wb.search.ending.twins.measure_latency", by_name(0.5 if faster else 0.95))
    monkeypatch.setattr("wb.compress.ptq.convolutions.measure_latency", by_name(1.0))
    model, data = mapped
    made = {n: Made(n, one, tmp_path / f"{n}.onnx", one.architecture) for n, one in {3: model, 4: striped}.items()}
    export(model, made[3].path)
    made |= dict(mirroring(made, flipped=[3], most=60, write=written))
    found = dict(lowering(made, 60, data, Device(), 0, alone=nullcontext, say=pytest.fail))
    assert list(found) == ([2003, 3003] if faster else [])
    assert {path.stem for path in tmp_path.glob("*.onnx")} == {"3", "1003", *map(str, found)}
    for one, whole in zip(found.values(), (3, 1003), strict=False):
        assert (one.number, one.low, one.mirrored) == (3, True, whole == 1003)
        assert set(precisions(one.architecture).values()) == {"int8"}
        assert set(precisions(one.model.architecture).values()) == {"fp32"}
        assert read_architecture(one.path) == one.architecture
        before, after = (outputs(path, INPUTS, Device()) for path in (made[whole].path, one.path))
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98
    if not faster:
        return
    other = Model(A, {name: -weight if name.startswith("head") else weight for name, weight in model.weights.items()})
    for number in (3, 1003, 2003, 3003):
        one = {**made, **found}[number]
        before = outputs(one.path, INPUTS, Device())
        again = remade(one, other, data, 0, written)
        assert again.architecture == one.architecture == read_architecture(one.path)
        assert again.model.architecture == one.model.architecture
        assert np.corrcoef(before.ravel(), outputs(one.path, INPUTS, Device()).ravel())[0, 1] < -0.98


def test_who_cannot_be_in_8_bits_has_none_which_is_said(
    mapped: tuple[Model, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Unsupported("no such kernel")

    monkeypatch.setattr("wb.search.ending.twins.without", refuse)
    monkeypatch.setattr("wb.search.ending.twins.slow_in_8_bits", lambda *_, **__: ())
    said: list[str] = []
    made = {3: Made(3, mapped[0], tmp_path / "3.onnx", A)}
    assert not dict(lowering(made, 60, mapped[1], Device(), 0, alone=nullcontext, say=said.append))
    assert said == ["finalist 3 has no twin in 8 bits: no such kernel"]
