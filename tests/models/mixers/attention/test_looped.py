"""Looped blocks against their formula, token by token, and against an unrolled network of blocks with copied weights."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from tests.networks import assembled, images, random_model
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Layout
from wb.core.records import ImageInput, LayerNorm, Mlp, PatchStem, Softmax
from wb.core.records.mixers.recursion import Looped
from wb.export.counting.graph import count_graph
from wb.export.graph import export
from wb.export.timing.blocks import parts
from wb.models.block import build_operator
from wb.models.counting import count_macs, count_parameters
from wb.models.layers.operator import Context, OperatorModule
from wb.models.model import Model
from wb.search.supernet import Supernet
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

EMBED, COUNT = 5, 6
RECORD = Looped(heads=2, qk=3, v=4, loop_mlp=7, loops=3)
IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
PLAIN = {"inject": False, "closed": False}


def drawn(record: Looped, *, causal: bool = False) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((COUNT,), causal=causal)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens() -> Tensor:
    return torch.randn(2, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Slow:
    """z <- f(z + x) with loops, of one example (N, D), as the published code runs it."""

    def __init__(self, module: OperatorModule, record: Looped) -> None:
        self.w = {name: weight.detach() for name, weight in module.named_parameters()}
        self.record = record

    def norm(self, z: Tensor, name: str) -> Tensor:
        scaled = (z - z.mean()) / (z.var(correction=0) + self.record.eps).sqrt()
        return scaled * self.w[f"{name}_gain"] + self.w[f"{name}_shift"]

    def attention(self, x: list[Tensor], i: int) -> Tensor:
        w, y = self.w, self.w["bo"].clone()
        for h in range(self.record.heads):
            q = w["wq"][h] @ x[i] + w["bq"][h]
            shares = [math.exp(self.record.factor * float(q @ (w["wk"][h] @ z + w["bk"][h]))) for z in x]
            values = [w["wv"][h] @ z + w["bv"][h] for z in x]
            y += w["wo"][:, h] @ sum(s * v for s, v in zip(shares, values, strict=True)) / sum(shares)
        return y

    def perceptron(self, z: Tensor) -> Tensor:
        up = self.w["loop_up"] @ z + self.w["loop_up_bias"]
        active = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        return self.w["loop_down"] @ active + self.w["loop_down_bias"]

    def f(self, given: Tensor) -> Tensor:
        normed = [self.norm(z, "attend") for z in given]
        x = [z + self.attention(normed, i) for i, z in enumerate(given)]
        x = [z + self.perceptron(self.norm(z, "loop")) for z in x]
        return torch.stack([self.norm(z, "end") if self.record.closed else z for z in x])

    def __call__(self, x: Tensor) -> Tensor:
        z = torch.zeros_like(x) if self.record.inject else x
        for _ in range(self.record.loops):
            z = self.f(z + x) if self.record.inject else self.f(z)
        return self.w["given"] * (z - x)


@pytest.mark.parametrize(
    "changes", [{}, {"loops": 1}, {"closed": False}, {"inject": False}, {"scale": 0.7, "loops": 2}], ids=str
)
def test_it_is_its_formula(changes: dict[str, float]) -> None:
    record = RECORD.model_copy(update=changes)
    module, x = drawn(record), tokens()
    expected = torch.stack([Slow(module, record)(one) for one in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def algorithmic(record: Looped) -> Architecture:
    """Ordinary blocks in front and behind, as AlgoFormer has them."""
    around = Block(mixer=Softmax(heads=2, qk=3, v=4), ffn=Mlp(mlp=6))
    stage = Stage(embed=8, blocks=(around, Block(mixer=record), around))
    return assembled(input=IMAGE, stem=PatchStem(patch=2), stages=(stage,))


def unrolled(model: Model, record: Looped) -> Model:
    """The untied network: a block of attention and a perceptron for each time."""
    own = Block(
        mixer=Softmax(heads=record.heads, qk=record.qk, v=record.v),
        ffn=Mlp(mlp=record.loop_mlp, activation="gelu_tanh"),
        norm=LayerNorm(eps=record.eps),
    )
    stage = model.architecture.stages[0]
    blocks = (stage.blocks[0], *(own,) * record.loops, stage.blocks[2])
    a = model.architecture.model_copy(update={"stages": (stage.model_copy(update={"blocks": blocks}),)})
    weights = {name: w for name, w in model.weights.items() if not name.startswith("stages.0.1.")}
    last = f"stages.0.{record.loops + 1}."
    weights = {name.replace("stages.0.2.", last): w for name, w in weights.items()}
    given = {
        name.removeprefix("stages.0.1.mixer."): w for name, w in model.weights.items() if name.startswith("stages.0.1.")
    }
    for t in range(1, record.loops + 1):
        for one in ("gain", "shift"):
            weights[f"stages.0.{t}.norm1.{one}"] = given[f"attend_{one}"]
            weights[f"stages.0.{t}.norm2.{one}"] = given[f"loop_{one}"]
        weights |= {f"stages.0.{t}.mixer.{k}{n}": given[f"{k}{n}"] for k in "wb" for n in "qkvo"}
        for name in ("up", "up_bias", "down", "down_bias"):
            weights[f"stages.0.{t}.ffn.{name}"] = given[f"loop_{name}"]
    return Model(a, weights)


@pytest.mark.parametrize("loops", [1, 2, 4])
def test_loops_are_an_unrolled_network_with_copied_weights(loops: int) -> None:
    record = RECORD.model_copy(update={"loops": loops, **PLAIN})
    model = random_model(algorithmic(record))
    model.weights["stages.0.1.mixer.given"].fill_(1.0)
    other = unrolled(model, record)
    x = images(model.architecture)
    torch.testing.assert_close(model.network()(x), other.network()(x), rtol=1e-4, atol=1e-5)
    assert count_macs(model.architecture).value == count_macs(other.architecture).value


def test_work_grows_with_the_loops_and_nothing_else_does(tmp_path: Path) -> None:
    a, b = (algorithmic(RECORD.model_copy(update={"loops": loops})) for loops in (2, 3))
    once = 16 * (8 * 2 * (2 * 3 + 2 * 4) + 2 * 8 * 7) + 2 * 16 * 16 * (3 + 4)
    assert count_macs(b).value - count_macs(a).value == once
    assert count_parameters(b) == count_parameters(a)
    assert len({part.key for one in (a, b) for part in parts(one)}) == 4, "the loops are timed apart, the others once"
    sizes = []
    for at, one in enumerate((a, b)):
        path = tmp_path / f"{at}.onnx"
        model = random_model(one)
        assert export(model, path).value <= 1e-4
        assert count_graph(path).readings["macs"].value == count_macs(one).value
        sizes.append(sum(numpy_helper.to_array(tensor).size for tensor in onnx.load(path).graph.initializer))
    assert abs(sizes[1] - sizes[0]) < 16, "weights of the loop are stored once"


def test_how_often_is_chosen_with_the_same_weights() -> None:
    space = Vit(options_with(TINY, {"mixer": ["looped"], "loops": [1, 2, 4], "depth": [1, 2], "embed": [8]}), IMAGE, 3)
    assert space.genes["b0.loops"] == (1, 2, 4)
    supernet = Supernet.fresh(space, 0)
    found = {}
    for loops in (1, 4):
        choices = {name: loops if name.endswith("loops") else options[-1] for name, options in space.genes.items()}
        a = space.decode(choices)
        assert {block.mixer.loops for _, _, block in a.blocks() if isinstance(block.mixer, Looped)} == {loops}
        assert space.decode(space.encode(a)) == a
        found[loops] = Model(a, {name: view.detach().clone() for name, view in supernet.views(a).items()})
    few, many = found[1], found[4]
    assert few.weights.keys() == many.weights.keys()
    assert all(torch.equal(few.weights[name], weight) for name, weight in many.weights.items())
    again = Model(few.architecture, many.weights)
    x = images(few.architecture)
    assert torch.equal(again.network()(x), few.network()(x))
    assert not torch.allclose(many.network()(x), few.network()(x))


def test_a_token_sees_none_that_follow() -> None:
    module, x = drawn(RECORD, causal=True), tokens()
    order = torch.arange(COUNT)
    context = Context(visible=(order[None, :] <= order[:, None])[None, None])
    other = x.clone()
    other[:, 3, 0] += 1
    changed = (module(other, context) - module(x, context)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.tolist() == [False] * 3 + [True] * 3
