"""Growing leaves the function as it is, gives training something to work with, and refuses what it cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.catalogue import CATALOGUE
from tests.networks import images, of_digits, random_model, wired
from wb.core.architecture import Architecture, Block, axis_sizes, resize
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Unnormed
from wb.fusion.grow.grow import Grow
from wb.models.model import Model
from wb.models.passes.base import apply

GROWING = (  # of every kind of symmetry and of norm, in every wiring that bears it
    "softmax-patch",
    "softmax-stages",
    "softmax-ladder",
    "softmax-parallel",
    "softmax-rms-stages",
    "softmax-batch-stages",
    "softmax-scale-pre",
    "softmax-cls",
    "relative-patch",
    "s6-patch",
    "grouped-patch",
    "linear-patch",
    "glu-alone",
    "map-depthwise",
    "map-inverted-alone",
)


def larger(a: Architecture, more: int = 3) -> Architecture:
    return resize(a, {name: size + more for name, size in axis_sizes(a).items()})


def doubled(model: Model) -> Model:
    return replace(model, weights={name: weight.double() for name, weight in model.weights.items()})


def run(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.network().double()(x)
    return logits


@pytest.mark.parametrize("name", GROWING)
def test_the_function_is_the_same_at_every_width(name: str) -> None:
    """On images that growing did not look at; weights are in single precision."""
    model = random_model(CATALOGUE[name], gain=1.0)
    goal = larger(model.architecture)
    grown = apply(Grow(goal), model)
    assert axis_sizes(grown.architecture) == axis_sizes(goal)
    x = images(model.architecture, 5).double()
    expected = run(model, x)
    torch.testing.assert_close(run(grown, x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert set(grown.history[-1].arguments["ways"]) == set(axis_sizes(goal))  # type: ignore[arg-type]


def deeper(a: Architecture) -> Architecture:
    (stage,) = a.stages
    return a.model_copy(update={"stages": (stage.model_copy(update={"blocks": stage.blocks * 2}),)})


def test_folded_blocks_are_grown_too() -> None:
    """As `wb fold norms` leaves them: each says that it has no norm. Only a norm allows a stream to grow by any width."""
    folded = of_digits().with_blocks(lambda name, block: block.model_copy(update={"norm": Unnormed()}))
    model = random_model(folded, gain=1.0)
    goal = resize(larger(deeper(folded)), {"s0.embed": 16})
    grown = apply(Grow(goal), model)
    assert axis_sizes(grown.architecture) == axis_sizes(goal)
    x = images(folded, 5).double()
    expected = run(model, x)
    torch.testing.assert_close(run(grown, x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    mixed = deeper(folded).with_blocks(lambda name, b: b.model_copy(update={"norm": None}) if name == "s0.b3" else b)
    with pytest.raises(BadOption, match="kind of norm of the target is"):
        apply(Grow(mixed), model)


def test_blocks_and_widths_grow_at_once_and_again() -> None:
    model = random_model(of_digits(), gain=1.0)
    first = apply(Grow(larger(deeper(of_digits()))), model)
    assert len(first.architecture.stages[0].blocks) == 4
    twice = apply(Grow(larger(deeper(of_digits()), 5)), first)
    x = images(model.architecture, 5).double()
    expected = run(model, x)
    for one in (first, twice):
        torch.testing.assert_close(run(one, x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_keys_that_are_zero_join_attention_to_parameters() -> None:
    """TokenFormer's growth, with the length of scores kept: `behind`, as keys beside others change what these have."""
    a = CATALOGUE["pattention-alone"]
    grown = apply(Grow(resize(a, {"s0.b0.mlp": 14})), random_model(a, gain=1.0))
    assert grown.history[-1].arguments["ways"] == {"s0.b0.mlp": "behind"}
    keys, values = (grown.weights[f"stages.0.0.ffn.{name}"] for name in ("keys", "values"))
    assert not keys[9:].any()
    assert values[:, 9:].abs().min() > 0


def test_what_is_new_is_trained() -> None:
    """After a few steps no new entry is what it was, and the stream has something in its new channels."""
    model = random_model(of_digits(), gain=1.0)
    own, a = axis_sizes(model.architecture), larger(of_digits())
    grown = apply(Grow(a), model)
    network = grown.network().train()
    x, labels = images(a, 12), torch.arange(12) % 10
    rank = torch.linalg.matrix_rank(network.tokens(x).detach().flatten(0, 1).double(), rtol=1e-5)
    assert rank <= own["s0.embed"]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()
    for place in ("s0.b0", "s0.b1"):
        block = network.get_submodule(f"stages.0.{place[-1]}")
        units = own[f"{place}.mlp"]
        for name in ("ffn.up", "ffn.down"):
            now, before = block.get_parameter(name), grown.weights[f"stages.0.{place[-1]}.{name}"]
            moved = (now.detach() - before).abs()
            assert (moved[units:] if name == "ffn.up" else moved[:, units:]).min() > 0, (place, name)
    after = torch.linalg.matrix_rank(network.tokens(x).detach().flatten(0, 1).double(), rtol=1e-5)
    assert after > rank


def test_it_follows_from_the_seed() -> None:
    model, goal = random_model(of_digits(), gain=1.0), larger(of_digits())
    found = [Grow(goal, seed)(model).fingerprint() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_what_cannot_grow_is_refused() -> None:
    model = random_model(of_digits(), gain=1.0)
    a = of_digits()
    fewer = a.with_blocks(lambda name, block: Block() if name == "s0.b1" else block)
    for goal, words in (
        (a, "the target is as large as the model"),
        (resize(a, {"s0.b0.mlp": 5}), r"s0\.b0\.mlp is 24 in the model and 5 in the target"),
        (fewer, "blocks is 2 in the model and 1 in the target"),
        (wired(larger(a), "post"), "the wiring of the target is post-norm"),
    ):
        with pytest.raises(BadOption, match=words):
            Grow(goal)(model)
    post = wired(a, "post")
    with pytest.raises(Unsupported, match=r"s0\.embed cannot grow from 16 to 19 without changing"):
        Grow(larger(post))(random_model(post, gain=1.0))
    doubled_stream = Grow(resize(post, {"s0.embed": 32}))(random_model(post, gain=1.0))
    assert doubled_stream.history[-1].arguments["ways"] == {"s0.embed": "repeated"}
    with pytest.raises(Unsupported, match="blocks or sub-layers that it lacks would change"):
        Grow(deeper(post))(random_model(post, gain=1.0))
    memory = CATALOGUE["lmu-patch"]
    with pytest.raises(Unsupported, match="memory cannot grow"):
        Grow(resize(memory, {"s0.b0.memory": 8}))(random_model(memory, gain=1.0))
