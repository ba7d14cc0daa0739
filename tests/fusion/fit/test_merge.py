"""Averages of what lies on the same axes; what is missing writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wb.core.architecture import Block
from wb.core.records import Mlp
from wb.fusion.fit.merge import Aligned, merge
from wb.fusion.match.placed import place
from wb.models.axes import Select
from wb.models.model import Model

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def itself(model: Model, reference: Model) -> Aligned:
    """Block by block, as it is."""
    match = tuple(tuple(range(len(stage.blocks))) for stage in reference.architecture.stages)
    return Aligned(place(model, reference, match), {})


@settings(max_examples=20, deadline=None)
@given(given=st.lists(st.floats(0.01, 1), min_size=1, max_size=4))
def test_equal_models_are_averaged_by_their_shares(kit: Kit, given: list[float]) -> None:
    shares = [s / sum(given) for s in given]
    models = [kit.model(seed=i) for i in range(len(shares))]
    found = merge(models[0], [itself(model, models[0]) for model in models], shares)
    for name, weight in found.weights.items():
        expected = torch.stack([s * m.weights[name] for s, m in zip(shares, models, strict=True)]).sum(0)
        torch.testing.assert_close(weight, expected)


def test_maps_are_applied_before(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax,)))
    order = Select(torch.tensor([2, 0, 1]))
    found = merge(model, [Aligned(place(model, model, ((0,),)), {"s0.b0.heads": order})], [1.0])
    assert torch.equal(found.weights["stages.0.0.mixer.bq"], model.weights["stages.0.0.mixer.bq"][order.index])


def test_a_sublayer_that_one_lacks_writes_its_share_and_reads_as_those_that_have_it(kit: Kit) -> None:
    whole, bare = kit.model(kit.network((kit.softmax,))), kit.model(kit.network((Block(ffn=Mlp(mlp=9)),)), 1)
    found = merge(whole, [itself(whole, whole), itself(bare, whole)], [0.25, 0.75]).weights
    prefix = "stages.0.0.mixer"
    for name in ("wq", "bk", "wv"):
        torch.testing.assert_close(found[f"{prefix}.{name}"], whole.weights[f"{prefix}.{name}"])
    for name in ("wo", "bo"):
        torch.testing.assert_close(found[f"{prefix}.{name}"], 0.25 * whole.weights[f"{prefix}.{name}"])
    up = "stages.0.0.ffn.up"
    torch.testing.assert_close(found[up], 0.25 * whole.weights[up] + 0.75 * bare.weights[up])


def test_a_sublayer_that_none_has_writes_nothing_and_reads_as_the_reference(kit: Kit) -> None:
    whole, bare = kit.model(kit.network((kit.softmax,))), kit.model(kit.network((Block(ffn=Mlp(mlp=9)),)), 1)
    found = merge(whole, [itself(bare, whole)], [1.0])
    assert torch.equal(found.weights["stages.0.0.mixer.wq"], whole.weights["stages.0.0.mixer.wq"])
    assert not found.weights["stages.0.0.mixer.wo"].any()
    kit.same(found, bare)
    without = merge(whole, [itself(whole, whole), itself(bare, whole)], [0.0, 1.0])
    kit.same(without, bare)


def test_parents_are_kept_or_released_and_the_average_is_the_same(kit: Kit) -> None:
    models = [kit.single(kit.model(seed=i)) for i in range(2)]
    parents = [itself(Model(m.architecture, dict(m.weights)), models[0]) for m in models]
    kept = merge(models[0], parents, [0.5, 0.5])
    assert all(len(parent.parent.model.weights) == len(models[0].weights) for parent in parents)
    released = merge(models[0], parents, [0.5, 0.5], release=True)
    assert not any(parent.parent.model.weights for parent in parents)
    assert all(torch.equal(weight, released.weights[name]) for name, weight in kept.weights.items())
    assert {weight.dtype for weight in kept.weights.values()} == {torch.float32}
    assert models[0].weights.keys() == kept.weights.keys()
