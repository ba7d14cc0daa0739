"""Exact on everything; the same for copies but for a rotation; and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wb.core.architecture import Block
from wb.core.records import ConvStem, Cosformer, Mlp, Pool, Sla, Softmax
from wb.fusion.forms.canonical import canonical, foldable, restored
from wb.models.model import Model
from wb.models.network import build
from wb.training.refit.trace import network_of

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

seeds = st.integers(0, 99)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=seeds, balance=st.booleans())
def test_the_canonical_form_keeps_the_function_and_so_does_the_way_back(
    kit: Kit, data: st.DataObject, seed: int, balance: bool
) -> None:
    model = kit.model(data.draw(kit.networks), seed)
    found = canonical(model, balance=balance)
    kit.same(found, model)
    kit.same(canonical(found, balance=balance), model)
    back = restored(found, model)
    kit.same(back, model)
    assert back.architecture == model.architecture
    for name, weight in model.weights.items():
        if name.endswith((".gain", ".shift")):
            torch.testing.assert_close(back.weights[name], weight)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=seeds)
def test_copies_have_the_same_form_but_for_an_order(kit: Kit, data: st.DataObject, seed: int) -> None:
    """What was permuted is permuted still, where heads are not balanced."""
    model = kit.model(data.draw(kit.networks), seed)
    first, then = kit.permuted(canonical(model, balance=False)), canonical(kit.permuted(model), balance=False)
    for name, weight in first.weights.items():
        torch.testing.assert_close(then.weights[name], weight, rtol=1e-9, atol=1e-9, msg=name)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=seeds)
def test_copies_under_every_symmetry_compute_the_same_in_it(kit: Kit, data: st.DataObject, seed: int) -> None:
    model = kit.model(data.draw(kit.networks), seed)
    twin = kit.turned(model)
    assert twin.architecture == model.architecture
    kit.same(twin, model)
    kit.same(canonical(twin), model)
    kit.same(restored(canonical(twin), model), model)


@pytest.mark.parametrize("balance", [False, True])
def test_float32_stays_float32(kit: Kit, balance: bool) -> None:
    block = Block(mixer=Cosformer(heads=2, qk=3, v=4), ffn=Mlp(mlp=9))
    model = kit.single(kit.model(kit.network((kit.softmax, block))))
    found = canonical(model, balance=balance)
    assert {weight.dtype for weight in found.weights.values()} == {torch.float32}
    kit.same(found, model, 1e-5)
    kit.same(restored(found, model), model, 1e-5)


def test_what_is_released_is_lost_as_it_is_changed(kit: Kit) -> None:
    """Tensors are not: what shares them stays what it is."""
    model = kit.model(kit.network())
    given = dict(model.weights)
    before = {name: weight.clone() for name, weight in given.items()}
    kept, found = canonical(model), canonical(replace(model, weights=given), release=True)
    assert found.weights is given
    assert all(torch.equal(weight, kept.weights[name]) for name, weight in given.items())
    assert all(torch.equal(weight, model.weights[name]) for name, weight in before.items())


def grams(model: Model, prefix: str) -> list[tuple[Tensor, Tensor]]:
    """(H, K, K) of queries and keys, and of values and outputs."""
    w = {name: model.weights[f"{prefix}.{name}"] for name in ("wq", "bq", "wk", "wv", "wo", "bv")}
    q, v = (torch.cat([w[f"w{letter}"], w[f"b{letter}"][..., None]], dim=2) for letter in "qv")
    return [tuple(m @ m.mT for m in pair) for pair in ((q, w["wk"]), (v, w["wo"].permute(1, 2, 0)))]  # type: ignore[misc]


def test_what_it_looks_like(kit: Kit) -> None:
    """Norms do nothing, readers ignore the mean and the stream has none, biases are gone, heads are balanced and sorted."""
    model = canonical(kit.model(kit.network(stem=ConvStem(patch=2, width=4))))
    w = model.weights
    assert all((w[name] == 1).all() for name in w if name.endswith(".gain"))
    assert all((w[name] == 0).all() for name in w if name.endswith((".shift", ".bk", ".bv")))
    for name in ("head", "stages.0.0.mixer.wv", "stages.0.1.ffn.up"):
        torch.testing.assert_close(w[name].sum(dim=-1), torch.zeros(w[name].shape[:-1]).double())
    network = network_of(model)
    state = network.begin(kit.pictures().double())
    for at in network.walk(0):
        state = at(state)
        x = state.stream
        torch.testing.assert_close(x.mean(dim=-1), torch.zeros(x.shape[:-1]).double())
    for one, other in grams(model, "stages.0.1.mixer"):
        torch.testing.assert_close(one, other)
        energy = one.diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(one, torch.diag_embed(energy))
        assert (energy.diff(dim=1) <= 1e-12).all()
    assert {b.mixer.scale for _, _, b in model.architecture.blocks() if isinstance(b.mixer, Softmax)} == {1.0}


def test_post_norm_networks_keep_their_norms_and_have_balanced_heads(kit: Kit) -> None:
    model = kit.model(kit.network(norm="post"))
    found = canonical(model)
    for name, weight in model.weights.items():
        if name.endswith((".gain", ".shift")) or name in ("position", "head"):
            assert torch.equal(found.weights[name], weight), name
    for one, other in grams(found, "stages.0.0.mixer"):
        torch.testing.assert_close(one, other)
    assert not found.weights["stages.0.0.mixer.bk"].any()


def test_what_a_merge_reads_is_not_centred(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax,), (kit.softmax,)))
    found = canonical(model)
    assert torch.equal(found.weights["position"], model.weights["position"])
    merge = found.weights["merges.0.merge"]
    torch.testing.assert_close(merge.sum(dim=0), torch.zeros(merge.shape[1:]).double())


def test_a_norm_without_weights_behind_it_keeps_its_gain(kit: Kit) -> None:
    model = kit.model(kit.network((Block(mixer=Pool(), ffn=Mlp(mlp=5)),)))
    found = canonical(model)
    assert torch.equal(found.weights["stages.0.0.norm1.gain"], model.weights["stages.0.0.norm1.gain"])
    assert (found.weights["stages.0.0.norm2.gain"] == 1).all()


@pytest.mark.parametrize("mixer", [Cosformer(heads=2, qk=3, v=4), Sla(heads=2, qk=3, v=4)])
def test_biases_that_matter_stay(kit: Kit, mixer: Cosformer | Sla) -> None:
    """Kernels are not softmax: what all keys have in common shows."""
    model = kit.model(kit.network((Block(mixer=mixer),)))
    assert canonical(model, balance=False).weights["stages.0.0.mixer.bk"].any()


@settings(max_examples=10, deadline=None)
@given(qk=st.integers(1, 12), v=st.integers(1, 12), seed=seeds)
def test_heads_wider_than_the_stream_have_channels_that_are_zero(kit: Kit, qk: int, v: int, seed: int) -> None:
    model = kit.model(kit.network((Block(mixer=Softmax(heads=2, qk=qk, v=v)),), embed=(5,)), seed)
    found = canonical(model)
    kit.same(found, model)
    torch.testing.assert_close(found.weights["stages.0.0.mixer.wq"][:, 6:].abs().sum(), torch.tensor(0.0).double())


def test_a_gain_next_to_zero_stays_folded(kit: Kit) -> None:
    model = kit.model()
    gain = model.weights["stages.0.0.norm1.gain"].clone()
    gain[2] = 1e-9
    model = replace(model, weights={**model.weights, "stages.0.0.norm1.gain": gain})
    back = restored(canonical(model), model)
    assert (back.weights["stages.0.0.norm1.gain"] == 1).all()
    kit.same(back, model)


def test_norms_come_from_the_other_model_as_far_as_it_has_them(kit: Kit) -> None:
    """So that a fused model looks like its anchor, and one of a new size has plain norms."""
    model, other = kit.model(), kit.model(seed=1)
    weights = {name: weight for name, weight in other.weights.items() if not name.startswith("norm.")}
    back = restored(canonical(model), replace(other, weights=weights))
    assert torch.equal(back.weights["stages.0.1.norm2.shift"], other.weights["stages.0.1.norm2.shift"])
    assert (back.weights["norm.gain"] == 1).all()
    kit.same(back, model)


def test_the_input_is_not_touched(kit: Kit) -> None:
    model = kit.model()
    before = {name: weight.clone() for name, weight in model.weights.items()}
    restored(canonical(model), model)
    assert all(torch.equal(before[name], weight) for name, weight in model.weights.items())


def test_a_stream_may_be_rotated_where_only_weights_read_it(kit: Kit) -> None:
    pool = Block(mixer=Pool())
    architecture = kit.network((kit.softmax,), (kit.softmax, pool))
    assert [foldable(build(architecture, "meta"), stage) for stage in (0, 1)] == [True, False]
    assert not foldable(build(kit.network(norm="post"), "meta"), 0)
