from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.networks import answering, assembled, form
from wb.compress.depth.drop import DropLayers, removed, sublayers, without
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadData, BadOption, BudgetMissed
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.data import Dataset
from wb.models.model import Model, Step, from_network, load, save
from wb.models.network import Network, build
from wb.models.passes.base import apply


@pytest.fixture(params=["pre", "post"])
def model(image: ImageInput, request: pytest.FixtureRequest) -> Model:
    """Two stages, three blocks; the middle one is switched off."""
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=12))
    stages = (Stage(embed=8, blocks=(block, Block(), block)), Stage(embed=12, blocks=(block,)))
    architecture = assembled(input=image, stem=PatchStem(patch=2), stages=stages, classes=3, norm=request.param)
    network = build(architecture)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.3, generator=generator)
    return from_network(architecture, network, (Step(name="train"),))


NAMES = ["s0.b0.mixer", "s0.b0.ffn", "s0.b2.mixer", "s0.b2.ffn", "s1.b0.mixer", "s1.b0.ffn"]


def at_most(count: int) -> Callable[[Architecture], bool]:
    return lambda architecture: len(sublayers(architecture)) <= count


def greedy(model: Model, data: Dataset, count: int, effect: str) -> dict[str, float]:
    """The obvious way: build every network that lacks one more sub-layer, and keep the one nearest to the first."""
    images = torch.from_numpy(data.train.pixels())
    dropped: dict[str, float] = {}
    with torch.no_grad():
        y = model.network()(images).softmax(dim=1)
        while len(sublayers(model.architecture)) > count:
            found = {}
            for name in sublayers(model.architecture):
                z = without(model, name).network()(images).softmax(dim=1)
                far = (y * (y / z).log()).sum(dim=1) if effect == "kl" else (y - z).norm(dim=1)
                found[name] = float(far.mean())
            name = min(found, key=found.__getitem__)
            dropped[name] = found[name]
            model = without(model, name)
    return dropped


def test_names_and_places_stay(model: Model) -> None:
    assert sublayers(model.architecture) == NAMES
    smaller = without(model, "s0.b2.mixer")
    assert sublayers(smaller.architecture) == [name for name in NAMES if name != "s0.b2.mixer"]
    assert len(smaller.architecture.stages[0].blocks) == 3
    gone = model.weights.keys() - smaller.weights.keys()
    assert {name.rsplit(".", 1)[0] for name in gone} == {"stages.0.2.mixer", "stages.0.2.norm1"}
    assert smaller.history == model.history
    both = without(without(model, "s0.b0.mixer"), "s0.b0.ffn")
    assert both.architecture.stages[0].blocks[0].off
    both.network()
    with pytest.raises(BadOption, match=r"no sub-layer 's0\.b2\.mixer'; this model has s0\.b0\.mixer, "):
        without(smaller, "s0.b2.mixer")


def test_what_is_gone_is_named_in_order(model: Model) -> None:
    names = sublayers(model.architecture)
    smaller = without(without(model, names[2]), names[1])
    assert removed(model.architecture, smaller.architecture) == names[1:3]
    assert removed(model.architecture, model.architecture) == []


def through_the_first_block(network: Network, x: Tensor) -> Tensor:
    wiring = network.wiring(0)
    return wiring.end(next(network.blocks(0))(wiring, wiring.begin(x, 0)))


def test_a_dropped_sublayer_is_the_identity(model: Model) -> None:
    """Its norm goes too: in a post-norm network the stream passes without being normalised."""
    x = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    block: Any = next(model.network().blocks(0))
    left = without(model, "s0.b0.mixer").network()
    nothing = without(without(model, "s0.b0.mixer"), "s0.b0.ffn").network()
    expected = x + block.ffn(block.norm2(x)) if form(model.architecture) == "pre" else block.norm2(x + block.ffn(x))
    torch.testing.assert_close(through_the_first_block(left, x), expected)
    assert torch.equal(through_the_first_block(nothing, x), x)


@pytest.mark.parametrize("effect", ["kl", "distance"])
def test_the_least_missed_goes_first(model: Model, stripes: Dataset, effect: str) -> None:
    calls: dict[str, float] = {}
    step = DropLayers(stripes, at_most(2), effect=effect, batch=50, report=calls.__setitem__)  # type: ignore[arg-type]
    result = apply(step, model)
    expected = greedy(model, stripes, 2, effect)
    assert list(calls) == list(expected)
    assert list(calls.values()) == pytest.approx(list(expected.values()), rel=1e-3, abs=1e-6)
    assert set(sublayers(result.architecture)) == set(NAMES) - set(expected)
    done = result.history[-1]
    assert (done.name, done.arguments["dropped"], done.arguments["images"]) == ("drop", calls, len(stripes.train))


def test_what_is_to_stay_stays(model: Model, stripes: Dataset) -> None:
    first = next(iter(greedy(model, stripes, 5, "kl")))
    result = DropLayers(stripes, at_most(3), keep=[first])(model)
    assert first in sublayers(result.architecture)
    with pytest.raises(BadOption, match=r"no sub-layer s9\.b9\.ffn to keep"):
        DropLayers(stripes, at_most(3), keep=["s9.b9.ffn"])(model)


def test_enough_is_enough(model: Model, stripes: Dataset) -> None:
    result = apply(DropLayers(stripes, lambda _: True), model)
    assert result.architecture == model.architecture
    assert result.history[-1].arguments["dropped"] == {}


@pytest.mark.parametrize(("least", "left"), [(1, "1"), (0, "none")])
def test_a_budget_out_of_reach(model: Model, stripes: Dataset, least: int, left: str) -> None:
    with pytest.raises(
        BudgetMissed, match=f"{6 - least} sub-layers are dropped, .* left, .*reached .* parameters"
    ) as error:
        DropLayers(stripes, lambda _: False, keep_at_least=least, limit=20)(model)
    assert ("none left" in str(error.value)) == (left == "none")


def test_other_data_are_refused(model: Model, stripes: Dataset) -> None:
    other = without(model, "s0.b0.ffn")
    wrong = Model(answering(other.architecture, classes=4), other.weights)
    with pytest.raises(BadData, match="have 3 classes"):
        DropLayers(stripes, at_most(3))(wrong)


def test_the_result_is_a_model_file(model: Model, stripes: Dataset, tmp_path: Path) -> None:
    result = DropLayers(stripes, at_most(4), split="validation", limit=16)(model)
    save(result, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert again.architecture == result.architecture
    assert json.dumps(dict(again.history[-1].arguments)) == json.dumps(dict(result.history[-1].arguments))  # order too
