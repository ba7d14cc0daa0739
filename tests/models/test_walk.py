"""What the walk says of each sub-layer, and what two wirings do with it."""

from __future__ import annotations

import pytest
import torch

from tests.networks import Form, assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.models.layers.planes import as_tokens
from wb.models.network import Network, build

BOTH = Block(mixer=Softmax(heads=2, qk=3, v=2), ffn=Mlp(mlp=5))
FORMS: tuple[Form, ...] = ("pre", "post")


def network(image: ImageInput, norm: Form = "pre") -> Network:
    """Two stages, the first with a block that is switched off and one that is half there."""
    stages = (Stage(embed=6, blocks=(BOTH, Block(), Block(ffn=Mlp(mlp=3)))), Stage(embed=8, blocks=(BOTH,)))
    built = build(assembled(input=image, stem=PatchStem(patch=2), stages=stages, classes=3, norm=norm))
    torch.manual_seed(0)
    built.reset()
    return built.eval()


def test_sublayers_come_in_order_of_execution(image: ImageInput) -> None:
    built = network(image)
    found = list(built.walk())
    assert [at.name for at in found] == ["s0.b0.mixer", "s0.b0.ffn", "s0.b2.ffn", "s1.b0.mixer", "s1.b0.ffn"]
    assert [at.stage for at in found] == [0, 0, 0, 1, 1]
    assert [at.first for at in found] == [True, False, True, True, False]
    assert found[2].prefix == "stages.0.2.ffn"
    assert found[2].norm_prefix == "stages.0.2.norm2"
    assert found[2].place == "s0.b2"
    assert found[2].readers == {"stages.0.2.ffn.up": "stages.0.2.ffn.up_bias"}
    assert found[2].writers == {"stages.0.2.ffn.down": "stages.0.2.ffn.down_bias"}
    assert [at.name for at in built.walk(1)] == ["s1.b0.mixer", "s1.b0.ffn"]
    assert built.at("s0.b2.ffn") == found[2]


@pytest.mark.parametrize("norm", FORMS)
def test_a_wiring_reads_and_adds(image: ImageInput, norm: Form) -> None:
    built = network(image, norm)
    at = next(built.walk())
    x = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(1))
    state = built.wiring(0).begin(x, 0)
    expected = at.norm(x) if norm == "pre" else x
    assert torch.equal(at.read(state), expected)
    given = at.contribution(state)
    assert torch.equal(given, at.operator(expected))
    assert torch.equal(at.add(state, given).stream, x + given if norm == "pre" else at.norm(x + given))
    assert torch.equal(built.wiring(0).skip(state, at).stream, x)


def test_a_stage_is_entered_by_its_merge_and_the_end_runs_those_that_are_left(image: ImageInput) -> None:
    built = network(image)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    state = built.begin(x)
    assert torch.equal(state.stream, built.tokens(x))
    assert built.enter(state, 0) is state
    merged = built.enter(state, 1)
    assert merged.stage == 1
    assert torch.equal(merged.stream, as_tokens(built.merges[0](state.stream)))
    assert torch.equal(built.end(state), built.answered(merged.stream))
