"""What is counted of a model and its file, and the modelled energy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.precision import precisions, with_precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.export.counting.count import count_model, energy_by_part, model_energy
from wb.models.counting import count_macs, count_parameters


@pytest.fixture
def network(image: ImageInput) -> Architecture:
    block = Block(mixer=Softmax(heads=2, qk=3, v=4), ffn=Mlp(mlp=9))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block, block)),), classes=3)


def test_of_a_float_model_every_multiply_accumulate_costs_the_same(network: Architecture) -> None:
    energy = model_energy(network)
    assert energy.value == pytest.approx(4.6 * count_macs(network).value)
    assert (energy.how, energy.unit) == ("predicted", "pJ")
    assert energy.note is not None
    assert "a model" in energy.note


def test_fewer_bits_cost_less_where_they_are(network: Architecture) -> None:
    before = energy_by_part(network)
    for group in precisions(network):
        after = energy_by_part(with_precisions(network, {group: "int8"}))
        assert after[group] == pytest.approx(before[group] * 0.3 / 4.6)
        assert {**after, group: 0} == {**before, group: 0}


def test_all_readings_of_a_file(network: Architecture, tmp_path: Path) -> None:
    path = tmp_path / "any.onnx"
    path.write_bytes(b"12345")
    found = count_model(network, path)
    assert found["size"].value == 5
    assert found["macs"].value == count_macs(network).value
    assert found["params"].value == count_parameters(network).value
    assert found["energy"] == model_energy(network)
