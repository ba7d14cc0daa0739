"""Products and distances against loops and numpy; heads at their best against every rotation that is tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wb.core.architecture import Block, axis_sizes
from wb.core.records import Softmax
from wb.fusion.align.similarity import Heads, Statistics, contract, norms, shared, usable
from wb.fusion.align.solvers import Kind, Matrix, couplings
from wb.fusion.forms.canonical import canonical
from wb.fusion.match.placed import place
from wb.models.axes import Axes, Couple, CoupleWithin, Map, Select, SelectWithin, read, remap, write
from wb.models.model import Model, remap_model
from wb.models.named import axes_of
from wb.models.network import build

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

AXES: Axes = (write("heads"), write("qk"), read("embed"))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_contracting_sums_products_over_everything_else() -> None:
    a, b = normal(0, 2, 3, 4), normal(1, 2, 5, 4)
    torch.testing.assert_close(contract(a, b, AXES, "qk"), torch.einsum("hkd,hld->kl", a, b))
    torch.testing.assert_close(norms(a, AXES, "qk"), a.square().sum(dim=(0, 2)))
    torch.testing.assert_close(norms(a, AXES, "embed"), a.square().sum(dim=(0, 1)))
    x, y = normal(2, 3), normal(3, 4)
    torch.testing.assert_close(contract(x, y, (write("qk"),), "qk"), torch.outer(x, y))
    torch.testing.assert_close(norms(x, (write("qk"),), "qk"), x.square())


def test_what_is_usable_has_no_other_axis_that_is_unknown(kit: Kit) -> None:
    axes = axes_of(build(kit.network((kit.softmax,)), "meta"))
    first = set(usable(axes, "s0.embed", set()))
    assert first >= {"position", "stem.patches", "head", "stages.0.0.mixer.bo"}
    assert not first & {"stages.0.0.mixer.wq", "stages.0.0.ffn.up"}
    assert "stages.0.0.ffn.up" in set(usable(axes, "s0.embed", {"s0.b0.mlp"}))
    assert set(usable(axes, "s0.b0.mlp", {"s0.embed"})) == {f"stages.0.0.ffn.{n}" for n in ("up", "up_bias", "down")}


def test_memory_needs_no_map(kit: Kit) -> None:
    axes: dict[str, Axes] = {"wm": (write("s0.b0.hidden"), None, read("s0.b0.memory"))}
    assert list(usable(axes, "s0.b0.hidden", {"s0.b0.memory"})) == ["wm"]


def test_what_is_shared_out_evenly_is_as_large_as_its_duplicate() -> None:
    a = normal(0, 2, 3, 4)
    wide = a.repeat(1, 2, 2)
    assert shared(a, a, AXES, {"qk": True, "embed": False}) is a
    torch.testing.assert_close(shared(a, wide, AXES, {"qk": False}), a)
    torch.testing.assert_close(shared(a, wide, AXES, {"embed": False}), a / 2)
    torch.testing.assert_close(shared(a, wide, AXES, {"qk": True}), a / 2**0.5)
    torch.testing.assert_close(shared(wide, a, AXES, {"embed": False, "qk": True}), wide * 2 * 2**0.5)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=3), seed=st.integers(0, 99))
def test_statistics_of_parts_are_those_of_the_whole(cuts: list[int], seed: int) -> None:
    """Correlations are numpy's; what does not vary has none."""
    a, b = normal(seed, 30, 3) + 1, normal(seed + 1, 30, 4) * 5
    a[:, 1] = 0.7
    found = Statistics()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        found.add("x", a[start:end], b[start:end])
    products, own, other = found.similarity("x", standard=False)
    torch.testing.assert_close(products, a.T @ b)
    np.testing.assert_allclose(own, a.square().sum(0))
    np.testing.assert_allclose(other, b.square().sum(0))
    correlation, own, other = found.similarity("x", standard=True)
    varying = [0, 2]
    expected = np.corrcoef(a[:, varying].T, b.T)[:2, 2:]
    np.testing.assert_allclose(correlation[varying], expected, atol=1e-9)
    assert not correlation[1].any()
    assert own.tolist() == [1, 0, 1]
    assert other.tolist() == [1] * 4


def test_statistics_of_heads_are_by_heads() -> None:
    a, b = normal(0, 10, 2, 3), normal(1, 10, 4, 5)
    found = Statistics()
    found.add_heads("x", a[:4], b[:4])
    found.add_heads("x", a[4:], b[4:])
    torch.testing.assert_close(found.products["x"], torch.einsum("rik,rjl->ijkl", a, b))


HEADS, QK, V = "s0.b0.heads", "s0.b0.qk", "s0.b0.v"
KINDS: dict[str, dict[str, Kind]] = {"orth": {QK: "rotation", V: "rotation"}, "perm": {QK: "paired", V: "permutation"}}
every = pytest.mark.parametrize("method", ["perm", "orth"])


def one_block(kit: Kit, seed: int = 0, **sizes: int) -> Model:
    """In canonical form."""
    record = Softmax.model_validate({"heads": 3, "qk": 4, "v": 3, **sizes})
    return canonical(kit.model(kit.network((Block(mixer=record),)), seed))


def compared(one: Model, two: Model, method: str, statistics: Statistics | None = None) -> Heads:
    """On the same stream."""
    stream: dict[str, Map] = {"s0.embed": Select(torch.arange(8))}
    return Heads(place(one, two, ((0,),)), two, HEADS, KINDS[method], stream, statistics)


def scrambled(model: Model, order: list[int], method: str) -> Model:
    """Heads in that order, their channels permuted or rotated, in each head otherwise."""
    maps: dict[str, Map] = {HEADS: Select(torch.tensor(order))}
    for seed, axis in enumerate((QK, V)):
        size = axis_sizes(model.architecture)[axis]
        turns = torch.linalg.qr(normal(seed, len(order), size, size)).Q
        orders = normal(seed, len(order), size).argsort(dim=1)
        maps[axis] = CoupleWithin(turns, turns, HEADS) if method == "orth" else SelectWithin(orders, HEADS)
    return replace(model, weights=remap(model.weights, axes_of(build(model.architecture, "meta")), maps))


@every
def test_heads_of_a_copy_cost_nothing_at_their_place(kit: Kit, method: str) -> None:
    """And the others something."""
    model, order = one_block(kit, heads=4), [2, 0, 3, 1]
    cost = compared(scrambled(model, order, method), model, method).cost()
    np.testing.assert_allclose(cost[range(4), order], 0, atol=1e-9)
    cost[range(4), order] = 1
    assert cost.min() > 0.1


@every
def test_the_cost_does_not_depend_on_the_order_or_turn_of_channels(kit: Kit, method: str) -> None:
    one, two = one_block(kit), one_block(kit, 1)
    other = compared(scrambled(one, [0, 1, 2], method), two, method).cost()
    np.testing.assert_allclose(compared(one, two, method).cost(), other)


def test_no_rotation_brings_heads_nearer_than_their_cost(kit: Kit) -> None:
    """The best one reaches it."""
    one, two = one_block(kit), one_block(kit, 1)
    cost = compared(one, two, "orth").cost()
    prefix = "stages.0.0.mixer"
    parts = []
    for model in (one, two):
        w = {name: model.weights[f"{prefix}.{name}"] for name in ("wq", "bq", "wk", "bk", "wv", "bv", "wo")}
        queries = torch.cat([w["wq"], w["bq"][..., None], w["wk"], w["bk"][..., None]], dim=2)
        parts.append((queries, torch.cat([w["wv"], w["bv"][..., None], w["wo"].permute(1, 2, 0)], dim=2)))
    best = 0.0
    for a, b in zip(*parts, strict=True):
        apart = [
            (torch.linalg.qr(normal(seed, a.shape[1], a.shape[1])).Q @ a[0] - b[1]).square().sum() for seed in range(50)
        ]
        u, _, v = torch.linalg.svd(b[1] @ a[0].T)
        nearest = float((u @ v @ a[0] - b[1]).square().sum())
        assert nearest <= float(min(apart))
        best += nearest
    assert cost[0, 1] == pytest.approx(best)


@every
@pytest.mark.parametrize("plan", [np.eye(3), np.eye(3)[:, [1, 2, 0]], np.eye(3)[[0, 1, 2, 1]]])
def test_within_heads_products_and_distances_are_those_of_the_pairs(kit: Kit, method: str, plan: Matrix) -> None:
    one, two = one_block(kit, heads=len(plan)), one_block(kit, 1)
    heads = compared(one, two, method)
    for name in (QK, V):
        products, own, other = heads.channels(name)
        for j in range(3):
            pairs = plan[:, j].nonzero()[0]
            mean = torch.stack([products[i, j] for i in pairs]).mean(0)
            torch.testing.assert_close(heads.within(name, plan)[j], mean)
            squares = np.mean([own[i] for i in pairs], axis=0)[:, None] + other[j]
            torch.testing.assert_close(heads.apart(name, plan)[j], torch.from_numpy(squares) - 2 * mean)


def test_with_statistics_heads_are_compared_by_what_they_do(kit: Kit) -> None:
    one, two = one_block(kit), one_block(kit, 1)
    found = Statistics()
    q, k, v = normal(0, 20, 3, 4), normal(1, 20, 3, 4), normal(2, 20, 3, 3)
    for axis, values in ((QK, q), (QK, k), (V, v)):
        found.add_heads(axis, values, values[:, [1, 2, 0]])
    cost = compared(one, two, "orth", found).cost()
    np.testing.assert_allclose(cost[[0, 1, 2], [2, 0, 1]], 0, atol=1e-9)
    assert np.sort(cost.flatten())[3] > 0.1


def test_heads_that_become_one_are_turned_alike_and_the_function_stays(kit: Kit) -> None:
    """Two copies of each head that only differ by their turn are the same head afterwards."""
    small = one_block(kit)
    twice = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    wide = canonical(remap_model(small, {HEADS: Couple(twice, twice / 2)}))
    source = scrambled(wide, [*range(6)], "orth")
    heads = compared(source, small, "orth")
    cost = heads.cost()
    plan = couplings(cost, "lap")
    np.testing.assert_array_equal(plan, np.eye(3)[[0, 1, 2, 0, 1, 2]])
    heads.turned(plan, cost)
    turned = heads.source.model
    kit.same(turned, source)
    for name in ("wq", "wk", "wv"):
        weight = turned.weights[f"stages.0.0.mixer.{name}"]
        torch.testing.assert_close(weight[:3], weight[3:])
