"""What the selection promises, whatever the scores and the costs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import assembled
from wb.compress.depth.drop import sublayers, without
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.costs import counted
from wb.compress.nvit.saliency import Gates, Scores
from wb.compress.nvit.select import STEPS, Line, Selector
from wb.compress.nvit.settings import Rules
from wb.core.architecture import Architecture, Block, Stage, axis_dims, axis_sizes, resize
from wb.core.records import ImageInput, Mlp, PatchStem, Sla, Softmax
from wb.models.axes import SelectWithin
from wb.models.model import Model, from_network, remap_model
from wb.models.named import axes_of
from wb.models.network import build, describe

IMAGE = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
BLOCKS = (
    Block(mixer=Softmax(heads=3, qk=5, v=6), ffn=Mlp(mlp=14)),
    Block(),
    Block(mixer=Sla(heads=2, qk=4, v=3), ffn=Mlp(mlp=10)),
)
DENSE = assembled(
    input=IMAGE,
    stem=PatchStem(patch=2),
    stages=(Stage(embed=12, blocks=BLOCKS), Stage(embed=9, blocks=BLOCKS[:1])),
    classes=3,
)
METRICS = ("macs", "params")
KINDS = ("embed", "heads", "qk", "v", "mlp", "blocks")


@cache
def costs() -> dict[str, Cost]:
    return {metric: counted(DENSE, metric) for metric in METRICS}


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    network = build(DENSE)
    found = Gates.of(axes_of(network), axis_dims(describe(network))).sums(
        {n: w.detach() for n, w in network.named_parameters()}
    )
    return {name: tuple(value.shape) for name, value in found.items()} | dict.fromkeys(sublayers(DENSE), ())


def scores_of(seed: int) -> Scores:
    """Random ones over several orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.exp(3 * torch.randn(shape, generator=generator)) for n, shape in shapes().items()}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Selector, dict[str, float]]:
    """A selector with random scores and rules, and targets."""
    keep = frozenset(draw(st.sets(st.sampled_from(KINDS), max_size=3)))
    rules = Rules(keep, draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0])))
    used = draw(st.sampled_from([("macs",), ("params",), METRICS]))
    chosen = {metric: costs()[metric] for metric in used}
    targets = {metric: draw(st.floats(0.25, 0.98)) * chosen[metric](DENSE) for metric in used}
    return Selector(DENSE, scores_of(draw(st.integers(0, 2**16))), chosen, rules), targets


def without_layers(model: Model, layers: list[str]) -> Model:
    for layer in layers:
        model = without(model, layer)
    return model


def result(selector: Selector) -> Architecture:
    """The architecture that the selector says, put together from its sizes and what it dropped."""
    bare = without_layers(Model(DENSE, {}), selector.dropped).architecture
    return resize(bare, {name: selector.sizes[name] for name in axis_sizes(bare)})


def kind(name: str) -> str:
    return name.rsplit(".", 1)[1]


@settings(max_examples=30, deadline=None)
@given(case=cases(), further=st.floats(0.3, 1))
def test_what_is_left_keeps_targets_and_rules(case: tuple[Selector, dict[str, float]], further: float) -> None:
    selector, targets = case
    floor = {metric: selector.floor(metric) for metric in targets}
    before = {name: value.clone() for name, value in selector.scores.items()}
    met = selector.until(targets, final={metric: further * target for metric, target in targets.items()})
    a = result(selector)
    for metric in targets:
        assert selector.cost(metric) == pytest.approx(costs()[metric](a), rel=1e-9)
        assert selector.cost(metric) >= floor[metric] * (1 - 1e-9)
    assert met == all(selector.cost(metric) <= target for metric, target in targets.items())
    if any(floor[metric] > target * (1 + 1e-9) for metric, target in targets.items()):
        assert not met
    for name, size in axis_sizes(a).items():
        whole, align = axis_sizes(DENSE)[name], selector.rules.align if axis_dims(DENSE)[name].aligned else 1
        assert 1 <= size <= whole
        assert size == whole or (size % align == 0 and kind(name) not in selector.rules.keep)
    if "blocks" in selector.rules.keep:
        assert not selector.dropped
    for layer in selector.dropped:
        own = {"mlp"} if kind(layer) == "ffn" else {"heads", "qk", "v"}
        assert not own & selector.rules.keep, "what is to be kept would go with it"
    assert all(torch.equal(value, selector.scores[name]) for name, value in before.items())


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_nothing_more_can_be_given_back(case: tuple[Selector, dict[str, float]]) -> None:
    selector, targets = case
    if all(selector.cost(metric) <= target for metric, target in targets.items()) or not selector.until(targets):
        return
    a = result(selector)
    for name, size in axis_sizes(a).items():
        line = selector.lines.get(name)
        if line is None or size == line.units:
            continue
        more = min(line.units, size + line.align - size % line.align)
        larger = resize(a, {name: more})
        assert any(costs()[metric](larger) > target for metric, target in targets.items()), name


@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_the_maps_make_what_the_selector_says(case: tuple[Selector, dict[str, float]]) -> None:
    """And keep the most salient: in each head of its own channels, else of all."""
    selector, targets = case
    selector.until(targets)
    network = build(DENSE)
    network.reset()
    model = without_layers(from_network(DENSE, network), selector.dropped)
    kept: dict[str, torch.Tensor] = {}
    for maps in selector.maps():
        for name, one in maps.items():
            assert isinstance(one, SelectWithin) == (len(shapes()[name]) == 2)
            kept[name] = one.index  # type: ignore[union-attr]
        model = remap_model(model, maps)
    assert axis_sizes(model.architecture) == axis_sizes(result(selector))
    for name, index in kept.items():
        expected = selector.scores[name].topk(index.shape[-1], dim=-1).indices.sort(dim=-1).values
        assert torch.equal(index, expected), name


def removed(scores: Scores, sizes: Mapping[str, int]) -> float:
    """What the selection lost, of axes without heads of their own."""
    return sum(float(scores[n].double().sort().values[: len(scores[n]) - size].sum()) for n, size in sizes.items())


def feed_forwards() -> tuple[Architecture, dict[str, Cost], tuple[str, ...]]:
    blocks = (Block(ffn=Mlp(mlp=6)), Block(ffn=Mlp(mlp=5)), Block(ffn=Mlp(mlp=4)))
    a = assembled(input=IMAGE, stem=PatchStem(patch=2), stages=(Stage(embed=4, blocks=blocks),), classes=3)
    return a, {"macs": counted(a, "macs")}, tuple(f"s0.b{i}.mlp" for i in range(3))


FEED_FORWARDS = feed_forwards()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.floats(0.45, 0.95))
def test_equal_costs_are_solved_best(seed: int, share: float) -> None:
    """Where all units cost the same, no other choice of sizes within the target loses less."""
    a, cost, axes = FEED_FORWARDS
    generator = torch.Generator().manual_seed(seed)
    scores = {n: torch.rand(axis_sizes(a)[n], generator=generator) for n in axes}
    target = share * cost["macs"](a)
    selector = Selector(a, scores, cost, Rules(frozenset({"embed", "blocks"})))
    if not selector.until({"macs": target}):
        assert selector.floor("macs") > target
        return
    found = {n: selector.sizes[n] for n in axes}
    best = min(
        removed(scores, dict(zip(axes, sizes, strict=True)))
        for sizes in itertools.product(*(range(1, axis_sizes(a)[n] + 1) for n in axes))
        if cost["macs"](resize(a, dict(zip(axes, sizes, strict=True)))) <= target
    )
    assert removed(scores, found) == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_it_loses_less_than_chance(seed: int) -> None:
    """Against random sizes that keep the target just as well, with units of very different costs."""
    scores = {n: s for n, s in scores_of(seed).items() if kind(n) in ("mlp", "embed")}
    cost = {"params": costs()["params"]}
    target = 0.6 * cost["params"](DENSE)
    selector = Selector(DENSE, scores, cost, Rules(frozenset({"blocks", "heads", "qk", "v"})))
    assert selector.until({"params": target})
    own = removed(scores, {n: selector.sizes[n] for n in scores})
    rng = torch.Generator().manual_seed(seed)
    others: list[float] = []
    while len(others) < 20:
        sizes = {n: int(torch.randint(1, len(s) + 1, (), generator=rng)) for n, s in scores.items()}
        if cost["params"](resize(DENSE, sizes)) <= target:
            others.append(removed(scores, sizes))
    assert own <= min(others)


def test_a_layer_that_matters_for_nothing_goes_first() -> None:
    scores = scores_of(0)
    scores["s0.b2.mixer"] = torch.tensor(0.0)
    selector = Selector(DENSE, scores, costs(), Rules())
    assert selector.until({"params": 0.97 * costs()["params"](DENSE)})
    assert selector.dropped == ["s0.b2.mixer"]
    assert not any(name.startswith("s0.b2.") and kind(name) != "mlp" for maps in selector.maps() for name in maps)


def test_what_is_saved_beyond_the_final_target_is_of_no_use() -> None:
    """A sub-layer that is cheap for all that it saves goes where there is far to go, a single unit where there is not."""
    cost = {"macs": costs()["macs"]}
    target = {"macs": 0.999 * cost["macs"](DENSE)}
    scores = {name: torch.full(shape, 100.0) for name, shape in shapes().items()}
    scores |= {"s0.b0.mlp": torch.tensor([1.0] + 13 * [100.0]), "s0.b0.ffn": torch.tensor(2.0)}
    for final, dropped, left in (({"macs": 0.3 * cost["macs"](DENSE)}, ["s0.b0.ffn"], 14), (None, [], 13)):
        selector = Selector(DENSE, scores, cost, Rules())
        assert selector.until(target, final=final)
        assert selector.dropped == dropped
        assert selector.sizes["s0.b0.mlp"] == left


@given(units=st.integers(1, 2000), align=st.integers(1, 64))
def test_steps_lead_over_multiples_to_the_smallest(units: int, align: int) -> None:
    line = Line("s0.b0.mlp", np.arange(units), np.zeros(units), min(align, units), units)
    steps = 0
    while (low := line.below()) < line.size:
        assert low % line.align == 0
        line.size = low
        steps += 1
    assert line.size == min(align, units)
    assert steps <= 2 * STEPS + 1


@pytest.mark.parametrize("eta", [0.0, 10.0])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_extremes_neither_overflow_nor_stop(eta: float, scale: float) -> None:
    scores = {name: value * scale for name, value in scores_of(3).items()}
    cost = {"params": costs()["params"]}
    selector = Selector(DENSE, scores, cost, Rules(eta=eta))
    target = 0.5 * cost["params"](DENSE)
    assert selector.until({"params": target})
    assert 0.9 * target < selector.cost("params") <= target


def test_a_target_that_is_met_removes_nothing() -> None:
    selector = Selector(DENSE, scores_of(0), costs(), Rules())
    assert selector.until({metric: cost(DENSE) for metric, cost in costs().items()})
    assert result(selector) == DENSE
    assert selector.maps() == []


def test_an_unreachable_target_ends_at_the_floor() -> None:
    selector = Selector(DENSE, scores_of(1), costs(), Rules(align=2))
    assert not selector.until({"macs": 1.0})
    assert selector.cost("macs") == pytest.approx(selector.floor("macs"))
