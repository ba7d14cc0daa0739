"""Which parameters decay: what multiplies, never what is added or scales."""

from __future__ import annotations

import pytest
from torch import nn

from wb.core.architecture import Architecture
from wb.core.records import ImageInput
from wb.models.network import skeleton
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.training.linear import decayed


@pytest.fixture(params=["largest", "smallest"])
def architecture(request: pytest.FixtureRequest, image: ImageInput) -> Architecture:
    space = Vit(TINY, image, 3)
    found: Architecture = getattr(space, request.param)()
    return found.model_copy(update={"prefix": 1})


def test_linear_maps_of_a_network_decay_and_nothing_else(architecture: Architecture) -> None:
    network = skeleton(architecture)
    names = {name for name, _ in network.named_parameters()}
    found = decayed(network)
    assert found < names
    maps = {f"{at.prefix}.{name}" for at in network.walk() for name in at.operator.outputs}
    assert maps < found
    assert "head" in found
    rest = found - maps - {"head"}
    assert all(name.startswith(("stem.", "merges.")) for name in rest)
    assert all(dict(network.named_parameters())[name].dim() > 1 for name in found)
    for name in names - found:
        assert not name.endswith((".wq", ".wk", ".wv", ".wo", ".up", ".down"))
    assert {"head_bias", "cls"} <= names - found
    assert not any("norm" in name or "gain" in name or "position" in name for name in found)


def test_matrices_of_other_modules_decay() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5), nn.Embedding(6, 5), nn.LayerNorm((2, 5)), nn.PReLU()
    )
    assert decayed(module) == {"0.weight", "2.weight"}
    assert decayed(nn.MultiheadAttention(4, 2)) == {"in_proj_weight", "out_proj.weight"}
    assert decayed(nn.Linear(2, 2)) == {"weight"}
