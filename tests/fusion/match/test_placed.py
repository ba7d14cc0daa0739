"""Names and axes under which a parent stands, and what its sub-layers stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wb.core.architecture import Block
from wb.core.records import Cosformer, Lmu, Mixer, Mlp, Pool, Sla, Softmax
from wb.fusion.match.placed import place, runs
from wb.models.axes import Axis, Couple, Select
from wb.models.named import axes_of
from wb.models.network import build

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def test_in_its_own_place_everything_is_itself(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax, kit.off), (kit.softmax,)))
    placed = place(model, model, ((0, 1), (0,)))
    assert placed.names == {name: name for name in model.weights}
    assert placed.axes == axes_of(build(model.architecture, "meta"))


def test_a_block_stands_under_the_name_of_its_counterpart(kit: Kit) -> None:
    model, reference = kit.model(), kit.model(kit.network((kit.off, kit.softmax)))
    placed = place(model, reference, ((None, 0),))
    assert placed.names["stages.0.1.mixer.wq"] == "stages.0.0.mixer.wq"
    assert placed.names["stages.0.1.norm2.gain"] == "stages.0.0.norm2.gain"
    assert placed.names["position"] == "position"
    assert placed.axes["stages.0.1.ffn.up"] == (Axis("s0.b1.mlp", "write"), Axis("s0.embed", "read"))
    assert placed.sublayers.keys() == {"s0.b1.mixer", "s0.b1.ffn"}
    assert not any(name.startswith("stages.0.0.") for name in placed.names)
    assert torch.equal(placed.weight("stages.0.1.mixer.wq"), model.weights["stages.0.0.mixer.wq"])


@pytest.mark.parametrize(
    ("mine", "theirs", "alike"),
    [
        (Softmax(heads=2, qk=3, v=4), Softmax(heads=5, qk=6, v=7, scale=0.1), True),
        (Softmax(heads=2, qk=3, v=4), Cosformer(heads=2, qk=3, v=4), False),
        (Sla(heads=2, qk=3, v=4), Sla(heads=2, qk=3, v=4, kernel=3), False),
        (Pool(), Pool(), True),
        (Pool(), Pool(kernel=5), False),
        (Lmu(memory=3, hidden=4), Lmu(memory=5, hidden=6), True),
        (Lmu(memory=3, hidden=4), Lmu(memory=3, hidden=4, bidirectional=False), False),
    ],
)
def test_what_is_of_another_kind_stands_for_nothing(kit: Kit, mine: Mixer, theirs: Mixer, alike: bool) -> None:
    one, two = (kit.model(kit.network((Block(mixer=mixer, ffn=Mlp(mlp=5)),))) for mixer in (mine, theirs))
    placed = place(one, two, ((0,),))
    assert ("s0.b0.mixer" in placed.sublayers) == alike
    assert ("stages.0.0.norm1.gain" in placed.names) == alike
    assert "s0.b0.ffn" in placed.sublayers


def test_maps_act_by_the_names_of_the_reference(kit: Kit) -> None:
    model, reference = kit.model(), kit.model(kit.network((kit.off, kit.softmax)))
    placed = place(model, reference, ((None, 0),))
    order = Select(torch.tensor([2, 0, 1]))
    assert torch.equal(
        placed.mapped("stages.0.1.mixer.wq", {"s0.b1.heads": order}),
        model.weights["stages.0.0.mixer.wq"][order.index],
    )
    assert torch.equal(placed.mapped("position", {"s0.b0.heads": order}), model.weights["position"])


def test_turning_changes_the_form_and_not_the_model_that_was_given(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax,)))
    placed = place(model, model, ((0,),))
    before = {name: weight.clone() for name, weight in model.weights.items()}
    order = torch.tensor([2, 0, 1])
    placed.turn({"s0.b0.heads": Select(order), "s0.b0.mlp": Couple(2 * torch.eye(9), torch.eye(9))})
    assert torch.equal(placed.weight("stages.0.0.mixer.wo"), before["stages.0.0.mixer.wo"][:, order])
    assert torch.equal(placed.weight("stages.0.0.ffn.up"), 2 * before["stages.0.0.ffn.up"])
    assert all(torch.equal(before[name], weight) for name, weight in model.weights.items())


def test_what_is_released_is_gone(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax,)))
    placed = place(model, model, ((0,),))
    placed.release("head")
    placed.release("nothing")
    assert "head" not in placed.model.weights
    placed.release("head")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_sublayer_of_the_parent_runs_once_and_in_order(kit: Kit, data: st.DataObject) -> None:
    """At its counterpart, or behind the last one before it, or at the start of its stage."""
    one = data.draw(kit.networks)
    two = data.draw(kit.networks.filter(lambda a: len(a.stages) == len(one.stages)))
    match = []
    for own, other in zip(one.stages, two.stages, strict=True):
        many = min(len(own.blocks), len(other.blocks))
        count = data.draw(st.integers(0, many))
        mine, theirs = (sorted(data.draw(st.permutations(range(len(stage.blocks))))[:count]) for stage in (own, other))
        pairs = dict(zip(theirs, mine, strict=True))
        match.append(tuple(pairs.get(j) for j in range(len(other.blocks))))
    parent, reference = kit.model(one), kit.model(two)
    placed = place(parent, reference, tuple(match))
    starts, groups = runs(placed, reference)
    expected = [s.name for s in build(one, "meta").walk()]
    found = []
    for stage in range(len(two.stages)):
        found += starts[stage]
        found += [own for name, group in groups.items() if name.startswith(f"s{stage}.") for own in group]
    assert found == expected
    for name, mine_ in placed.sublayers.items():
        assert groups[name][0] == mine_.name
    assert all(not group for name, group in groups.items() if name not in placed.sublayers)
