"""The recurrent gate against its formula, number by number, and against the published ones; what it counts and is refused for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.published import TYPES, Published, check
from tests.networks import assembled, joined, random_model
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import ImageInput, Mlp, PatchStem, Scale, Softmax
from wb.core.records.joins import Gru
from wb.fusion.forms.canonical import canonical
from wb.fusion.forms.compatible import check_together
from wb.fusion.forms.conform import conform
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings
from wb.models.block import build_join
from wb.models.counting import count_macs, count_parameters, operations
from wb.models.joins import gru
from wb.models.network import Network
from wb.training.linear import decayed

SIGMA = torch.sigmoid


def drawn(record: Gru, size: int = 5) -> gru.Gru:
    module = build_join(record, size).double().requires_grad_(False)
    assert isinstance(module, gru.Gru)
    generator = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        weight.normal_(0, 0.7, generator=generator)
    return module


def tokens(seed: int, size: int = 5) -> Tensor:
    return torch.randn(2, 3, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_formula(module: gru.Gru, y: list[float], x: list[float]) -> list[float]:
    """The stream of one token behind the gate, with loops over channels."""
    n, weights = range(len(x)), {name: w.tolist() for name, w in module.named_parameters()}
    y = [max(v, 0.0) for v in y] if module.record.relu else y

    def summed(gate: str, i: int, stream: list[float]) -> float:
        bias = weights.get(f"{gate}_bias", [0.0] * len(x))[i]
        given = sum(weights[f"{gate}_given"][i][j] * y[j] for j in n)
        return float(bias + given + sum(weights[f"{gate}_stream"][i][j] * stream[j] for j in n))

    r = [1 / (1 + math.exp(-summed("reset", i, x))) for i in n]
    z = [1 / (1 + math.exp(weights["shut"][i] - summed("update", i, x))) for i in n]
    h = [math.tanh(summed("candidate", i, [r[j] * x[j] for j in n])) for i in n]
    return [(1 - z[i]) * x[i] + z[i] * h[i] for i in n]


@pytest.mark.parametrize("record", [Gru(), Gru(relu=False), Gru(shifted=True)], ids=repr)
def test_the_stream_is_what_the_formula_says(record: Gru) -> None:
    module, y, x = drawn(record), tokens(1), tokens(2)
    found = x + module(y, x)
    for given, stream, one in zip(y.flatten(0, 1), x.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = torch.tensor(by_formula(module, given.tolist(), stream.tolist()), dtype=torch.float64)
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-12)
    on_map = module(*(t.transpose(1, 2).unflatten(2, (1, 3)) for t in (y, x)))
    torch.testing.assert_close(on_map.flatten(2).transpose(1, 2), module(y, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("wiring", ["pre", "post", "parallel", "ladder"])
@torch.no_grad()
def test_a_gate_that_is_shut_leaves_the_stream(image: ImageInput, wiring: str) -> None:
    model = random_model(gated(image, norm=wiring))
    weights = {n: torch.full_like(w, 1e4) if n.endswith("shut") else w for n, w in model.weights.items()}
    network = replace(model, weights=weights).network()
    state = network.begin(torch.rand(2, 1, 8, 8))
    for at in network.walk():
        assert not at.contribution(state).any()
        state = at(state)


def test_it_begins_as_far_shut_as_its_record_says() -> None:
    module = build_join(Gru(shut=1.5, shifted=True), 6)
    module.reset()
    weights = dict(module.named_parameters())
    assert (weights["shut"] == 1.5).all()
    assert not weights["reset_bias"].any()
    assert all(0 < w.abs().max() <= 6**-0.5 for w in weights.values() if w.dim() == 2)


PUBLISHED = ("Wr", "Ur", "Wz", "Uz", "Wg", "Ug")
OURS = tuple(f"{gate}_{of}" for gate in gru.GATES for of in ("given", "stream"))


@TYPES
@torch.no_grad()
def test_it_is_the_published_gate(reference: Path, kind: torch.dtype, tolerance: float) -> None:
    data = Published(reference, "gtrxl_gate", kind)
    module = build_join(Gru(relu=False), 16)
    named = {ours: data.weight(f"gate.{theirs}.weight") for ours, theirs in zip(OURS, PUBLISHED, strict=True)}
    module.load_state_dict({**named, "shut": data.weight("gate.bg")}, assign=True)
    x, y = data.given("x"), data.given("y")
    check(x + module(y, x), data.expected("gate"), tolerance)


@TYPES
@torch.no_grad()
def test_it_is_the_published_gate_with_biases(reference: Path, kind: torch.dtype, tolerance: float) -> None:
    """Two biases of one sum are one; the gate begins at 0.1 there, which is no parameter."""
    data = Published(reference, "gtrxl_gate", kind)
    module = build_join(Gru(relu=False, shifted=True), 16)
    where = "layer.gate1"
    named = {ours: data.weight(f"{where}.{theirs}.weight") for ours, theirs in zip(OURS, PUBLISHED, strict=True)}
    r, z, g = (data.weight(f"{where}.W{k}.bias") + data.weight(f"{where}.U{k}.bias") for k in "rzg")
    module.load_state_dict({**named, "reset_bias": r, "shut": 0.1 - z, "candidate_bias": g}, assign=True)
    x, y = data.given("x"), data.given("y")
    check(x + module(y, x), data.expected("layer_gate1"), tolerance)


def gated(image: ImageInput, norm: str = "pre", depth: int = 1, join: Gru = Gru()) -> Architecture:  # noqa: B008
    block = Block(mixer=Softmax(heads=2, qk=3, v=2), ffn=Mlp(mlp=5))
    stages = (Stage(embed=6, blocks=(block,) * depth),)
    return joined(assembled(input=image, stem=PatchStem(patch=2), stages=stages, norm=norm), join)


def test_its_products_are_counted_and_its_matrices_decay(image: ImageInput) -> None:
    a = gated(image)
    without = a.with_blocks(lambda _, block: block.model_copy(update={"join": None}))
    n, d = a.layout.tokens, 6
    assert count_parameters(a).value - count_parameters(without).value == 2 * (6 * d * d + d)
    assert count_macs(a).value - count_macs(without).value == 2 * 6 * n * d * d
    assert operations(a)["s0.b0.ffn.join"].macs == 6 * n * d * d
    network = Network(a)
    found = {name for name in decayed(network) if ".join" in name}
    assert found == {f"stages.0.0.join{i}.{name}" for i in (1, 2) for name in OURS}


def test_what_it_begins_with_is_no_difference_and_another_join_is(image: ImageInput) -> None:
    alike = [gated(image, join=join).with_labels(("a", "b", "c")) for join in (Gru(), Gru(shut=1.0))]
    assert not check_together(alike, ["one", "other"], 0)
    with pytest.raises(Unsupported, match="joins layer scale per channel and one has recurrent gate behind a ReLU"):
        check_together([alike[0], joined(alike[0], Scale())], ["one", "other"], 0)


def test_a_block_that_a_model_lacks_cannot_be_silent(image: ImageInput) -> None:
    model = random_model(gated(image))
    with pytest.raises(Unsupported, match="with recurrent gate behind a ReLU it changes the stream whatever"):
        conform(canonical(model), gated(image, depth=2), origins=((0, None),))


def test_fitting_leaves_what_is_in_front_of_it(image: ImageInput) -> None:
    """Two networks whose writers alone differ: they are averaged, and the fit finds nothing better."""
    a = gated(image)
    models = [random_model(a, seed) for seed in (0, 1)]
    own = {n: models[1].weights[n] if n.endswith((".wo", ".down")) else w for n, w in models[0].weights.items()}
    pair = [models[0], replace(models[0], weights=own)]
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    settings = {"method": "regress", "anchor": 1}
    fitted = fuse(pair, ["one", "other"], Settings.model_validate(settings), images).model
    assert torch.isfinite(fitted.network()(images)).all()
    same = fuse([models[0]] * 2, ["one", "other"], Settings.model_validate(settings), images).model
    torch.testing.assert_close(same.network()(images), models[0].network()(images), rtol=1e-3, atol=1e-3)
