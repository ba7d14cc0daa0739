"""Copies are found exactly, whatever was done to them; what may be done to an axis is what the operators say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wb.core.architecture import Block, axis_sizes, resize
from wb.core.records import ConvStem, Cosformer, Lmu, Mlp, Pool, Sla, Softmax
from wb.fusion.align.align import Aligner
from wb.fusion.align.observe import observe
from wb.fusion.fit.merge import Aligned, merge
from wb.fusion.forms.canonical import canonical, rebalanced
from wb.fusion.match.depth import Match
from wb.fusion.match.placed import place
from wb.models.axes import Couple, CoupleWithin, Select, SelectWithin, remap
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import build

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def in_order(model: Model) -> Match:
    return tuple(tuple(range(len(stage.blocks))) for stage in model.architecture.stages)


def aligner(source: Model, reference: Model, *, rotate: bool = True, images: torch.Tensor | None = None) -> Aligner:
    """Of the canonical forms of two models of equal depth."""
    one, two = (canonical(model, balance=rotate) for model in (source, reference))
    placed = place(rebalanced(one, two.architecture) if rotate else one, two, in_order(two))
    return Aligner(placed, two, rotate, statistics=None if images is None else observe(placed, two, images))


@settings(max_examples=10, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), rotate=st.booleans(), looked=st.booleans())
def test_copies_are_no_distance_apart_and_strangers_about_one(
    kit: Kit, data: st.DataObject, seed: int, rotate: bool, looked: bool
) -> None:
    model = kit.model(data.draw(kit.networks), seed)
    images = kit.pictures(30) if looked else None
    twin = kit.turned(model, seed) if rotate else kit.permuted(model, seed)
    found = aligner(twin, model, rotate=rotate, images=images)()
    assert all(cost <= 1e-9 for cost in found.costs.values()), found.costs
    found = aligner(kit.model(model.architecture, seed + 1), model, rotate=rotate, images=images)()
    assert found.costs.keys() == found.before.keys()
    assert all(0.01 < cost < 2 for cost in found.costs.values()), found.costs
    assert found.rounds == 1 or not looked
    if not looked:
        assert sum(found.costs.values()) < sum(found.before.values())


def test_a_permutation_is_undone_on_every_axis(kit: Kit) -> None:
    """Heads and units go back where they came from."""
    model = canonical(kit.model(kit.network((kit.softmax,), stem=ConvStem(patch=2, width=5))), balance=False)
    order = {
        a: torch.randperm(n, generator=torch.Generator().manual_seed(i))
        for i, (a, n) in enumerate(axis_sizes(model.architecture).items())
    }
    within = {f"s0.b0.{a}": torch.stack([order[f"s0.b0.{a}"]] * 3) for a in ("qk", "v")}
    maps = {a: Select(index) for a, index in order.items() if a not in within}
    maps |= {a: SelectWithin(index, "s0.b0.heads") for a, index in within.items()}  # type: ignore[misc]
    twin = Model(model.architecture, remap(model.weights, axes_of(build(model.architecture, "meta")), maps))
    found = aligner(twin, model, rotate=False)().maps
    for axis, index in order.items():
        map_ = found[axis]
        if isinstance(map_, Select):
            assert torch.equal(index[map_.index], torch.arange(len(index))), axis
        else:
            assert isinstance(map_, CoupleWithin)
            back = torch.eye(len(index), dtype=torch.float64)[index]
            torch.testing.assert_close(map_.write @ back, torch.eye(len(index)).double().expand_as(map_.write))


def test_what_may_be_done_to_each_axis(kit: Kit) -> None:
    blocks = tuple(
        Block(mixer=mixer, ffn=Mlp(mlp=5))
        for mixer in (Softmax(heads=2, qk=3, v=4), Cosformer(heads=2, qk=3, v=4), Sla(heads=2, qk=3, v=4))
    )
    model = kit.model(kit.network(blocks, (Block(mixer=Lmu(memory=3, hidden=4)), Block(mixer=Pool()))))
    kinds = aligner(model, model).kinds
    by_kind = {kind: {axis for axis, k in kinds.items() if k == kind} for kind in ("rotation", "paired", "permutation")}
    assert by_kind["rotation"] == {"s0.embed", "s0.b0.qk", "s0.b0.v", "s0.b1.v"}
    assert by_kind["paired"] == {"s0.b1.qk", "s0.b2.qk"}
    assert {"s1.embed", "s0.b0.heads", "s0.b0.mlp", "s0.b2.v", "s1.b0.hidden"} <= by_kind["permutation"]
    assert "s1.b0.memory" not in kinds
    still = aligner(model, model, rotate=False).kinds
    assert "rotation" not in still.values()
    assert still["s0.b0.qk"] == "paired"
    assert still["s0.b0.v"] == "permutation"


def test_a_stream_is_rotated_only_where_both_bear_it(kit: Kit) -> None:
    one, two = kit.model(kit.network((kit.softmax,))), kit.model(kit.network((Block(mixer=Pool()),)))
    assert aligner(one, one).kinds["s0.embed"] == "rotation"
    assert aligner(one, two).kinds["s0.embed"] == aligner(two, one).kinds["s0.embed"] == "permutation"


def test_maps_of_other_sizes_have_the_shape_of_both(kit: Kit) -> None:
    two = kit.model(kit.network((Block(mixer=Lmu(memory=3, hidden=4), ffn=Mlp(mlp=9)), kit.softmax)))
    sizes = {"s0.embed": 5, "s0.b0.memory": 6, "s0.b0.hidden": 6, "s0.b1.heads": 2, "s0.b1.qk": 6, "s0.b0.mlp": 7}
    one = kit.model(resize(two.architecture, sizes), 1)
    found = aligner(one, two)()
    assert found.before == {}, "nothing to compare before"
    for axis, size in sizes.items():
        map_ = found.maps[axis]
        assert isinstance(map_, Couple | CoupleWithin)
        assert map_.write.shape[-2:] == (axis_sizes(two.architecture)[axis], size), axis
    placed = place(canonical(one), canonical(two), ((0, 1),))
    merged = merge(canonical(two), [Aligned(placed, found.maps)], [1.0])
    merged.check()


@pytest.mark.parametrize("heads", [(2, 5), (5, 2)])
def test_heads_go_one_to_one_and_what_is_left_to_the_nearest(kit: Kit, heads: tuple[int, int]) -> None:
    one, two = (
        kit.model(kit.network((Block(mixer=Softmax(heads=count, qk=4, v=3)),)), i) for i, count in enumerate(heads)
    )
    plan = aligner(one, two)().plans["s0.b0.heads"]
    assert plan.shape == heads
    assert np.unique(plan).tolist() == [0, 1]
    assert (plan.sum(axis=0 if heads[0] < heads[1] else 1) == 1).all()
    assert (plan.sum(axis=1 if heads[0] < heads[1] else 0) >= 1).all()


def test_sources_are_not_touched(kit: Kit) -> None:
    """Where several heads become one the parent is turned, in its place only."""
    one = canonical(kit.model(kit.network((Block(mixer=Softmax(heads=5, qk=4, v=3)),))))
    two = canonical(kit.model(kit.network((Block(mixer=Softmax(heads=2, qk=4, v=3)),)), 1))
    before = {name: weight.clone() for name, weight in one.weights.items()}
    placed = place(one, two, ((0,),))
    Aligner(placed, two)()
    assert all(torch.equal(before[name], weight) for name, weight in one.weights.items())
    kit.same(placed.model, one)
    assert not torch.equal(placed.weight("stages.0.0.mixer.wq"), before["stages.0.0.mixer.wq"])


def test_a_head_that_becomes_two_is_as_balanced_as_those_of_the_reference(kit: Kit) -> None:
    """Values and outputs share the halving; averaged with the other's they would not multiply to the same otherwise."""
    small = kit.model(kit.network((Block(mixer=Softmax(heads=2, qk=4, v=3)),)))
    large = kit.model(resize(small.architecture, {"s0.b0.heads": 4}), 1)
    one = aligner(small, large)
    found = one()
    merged = merge(one.reference, [Aligned(one.source, found.maps)], [1.0])
    kit.same(merged, small)
    w = {name: merged.weights[f"stages.0.0.mixer.{name}"] for name in ("wv", "wo")}
    values, outputs = w["wv"].square().sum(dim=(1, 2)), w["wo"].square().sum(dim=(0, 2))
    torch.testing.assert_close(values, outputs)


def test_models_with_nothing_in_common_but_their_ends_are_aligned(kit: Kit) -> None:
    one = kit.model(kit.network((Block(mixer=Pool()),)))
    two = kit.model(kit.network((kit.off,)), 1)
    found = aligner(one, two)()
    assert found.maps.keys() == {"s0.embed"}
    assert found.match == ((0,),)
