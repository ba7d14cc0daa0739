"""Laws of fusion that hold for every architecture of the catalogue: operators are what they say, and copies are found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from tests.catalogue import Placed
from tests.networks import exactly, images, random_model
from wb.core.architecture import Architecture, axis_dims, axis_sizes, resize
from wb.core.errors import Unsupported
from wb.core.records import dims
from wb.core.records.mixers.memory import Atlas
from wb.core.records.mixers.sparse import Prototypes
from wb.fusion.forms.canonical import canonical, centred, foldable, restored, unit_gains
from wb.fusion.forms.conform import conform
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings, Stat
from wb.models.axes import Axis, Couple, CoupleWithin, Map, Select, SelectWithin, nested, remap
from wb.models.block import build_operator
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING, OperatorModule
from wb.models.layers.planes import as_tokens, laid
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import build, skeleton

EMBED = "embed"
Weights = Mapping[str, Tensor]


def drawn(a: Architecture) -> Model:
    """Random weights in float64, gains about one."""
    model = random_model(a, gain=1.0)
    return replace(model, weights={name: weight.double() for name, weight in model.weights.items()})


@pytest.fixture
def model(any_of_images: Architecture) -> Model:
    """Each architecture of the catalogue."""
    return drawn(any_of_images)


@pytest.fixture
def combined(any_combination: Architecture) -> Model:
    """Each of few networks of many parts."""
    return drawn(any_combination)


def run(model: Model) -> Tensor:
    with torch.no_grad():
        logits: Tensor = functional_call(
            build(model.architecture).double().eval(), dict(model.weights), exactly(images(model.architecture, 4))
        )
    return logits


def same(one: Model, other: Model, within: float = 1e-9) -> None:
    expected = run(other)
    torch.testing.assert_close(run(one), expected, rtol=0, atol=within * float(expected.abs().max()))


class Drawn(NamedTuple):
    """An operator with random weights and tokens (B, N, D) for it, all in float64."""

    module: OperatorModule
    weights: Weights
    x: Tensor


@pytest.fixture
def operator(any_operator: Placed) -> Drawn:
    """Each operator of the catalogue."""
    module = build_operator(*any_operator).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    size = 1.0 if module.jumps and module.statistics else 0.5  # thresholds have to be reached
    weights = {
        name: size * torch.randn(w.shape, generator=generator, dtype=torch.float64)
        for name, w in module.named_parameters()
    }
    weights |= {name: weights[name].abs() + 0.1 for name in module.statistics}
    shape = 2, any_operator.layout.tokens, any_operator.embed
    return Drawn(module, weights, torch.randn(shape, generator=generator, dtype=torch.float64))


def given(module: OperatorModule, weights: Weights, x: Tensor) -> Tensor:
    """What the operator makes of tokens: (B, N, D) -> (B, N, D), whatever the plane of its stage."""
    return as_tokens(functional_call(module, dict(weights), laid(x, module.layout)))


def sizes(module: OperatorModule) -> dict[str, int]:
    """Of every axis but the stream's, and but for the sides of kernels."""
    parameters = dict(module.named_parameters())
    return {
        axis.name: parameters[name].shape[dim]
        for name, axes in module.axes.items()
        for dim, axis in enumerate(axes)
        if axis is not None and axis.name != EMBED and axis.role != "side"
    }


def inner(module: OperatorModule, axis: str) -> bool:
    """Whether each head may have a map of its own for that axis."""
    on = [[a.name for a in axes if a is not None] for axes in module.axes.values()]
    outer = around(module, axis)
    return bool(outer) and all(outer in names for names in on if axis in names)


def around(module: OperatorModule, axis: str) -> str:
    """The axis of heads that it lies within."""
    return dims(type(module.record))[axis].within or ""


def turned(module: OperatorModule, axis: str, kind: Literal["permutation", "rotation"]) -> Map:
    """A random one, in each head another where that may be."""
    size = sizes(module)[axis]
    heads = sizes(module)[around(module, axis)] if inner(module, axis) else 1
    drawn = torch.randn(heads, size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if kind == "rotation":
        q = torch.linalg.qr(drawn).Q
        return CoupleWithin(q, q, around(module, axis)) if inner(module, axis) else Couple(q[0], q[0])
    order = torch.arange(size).roll(1).expand(heads, size)
    return SelectWithin(order, around(module, axis)) if inner(module, axis) else Select(order[0])


def changes(module: OperatorModule, weights: Weights, x: Tensor, map_: Map, axis: str) -> bool:
    """Whether the operator computes something else once an axis is mapped."""
    before = given(module, weights, x)
    after = given(module, remap(weights, module.axes, {axis: map_}), x)
    return not float((after - before).abs().max()) <= 1e-9 * float(before.abs().max())  # also where it is no number


def test_what_reads_the_stream_is_named_with_its_bias(operator: Drawn) -> None:
    module, weights, _ = operator
    reading = {name for name, axes in module.axes.items() if Axis(EMBED, "read") in axes}
    assert reading == {*module.readers, *module.inside}, type(module)
    for name, bias in module.readers.items():
        assert module.axes[name][module.outputs[name]] == Axis(EMBED, "read"), "a reader's columns are the stream"
        if bias is not None:
            assert weights[bias].shape == weights[name].shape[:-1]
            assert module.axes[bias] == module.axes[name][:-1]


def test_what_writes_to_the_stream_is_named_with_its_bias(operator: Drawn) -> None:
    """Where more lies on the stream than that, it can be permuted only."""
    module, weights, x = operator
    writing = {name for name, axes in module.axes.items() if Axis(EMBED, "write") in axes}
    named = {name for pair in module.writers.items() for name in pair if name is not None}
    assert writing == named if module.stream == "rotation" else writing > named, type(module)
    for name, bias in module.writers.items():
        assert module.axes[name][0] == Axis(EMBED, "write"), "a writer's rows are the stream"
        assert bias is None or weights[bias].shape == x.shape[2:]


def test_a_writer_on_what_is_hidden_is_the_whole_operator(operator: Drawn) -> None:
    module, weights, x = operator
    assert len(module.writers) <= 1
    for name, bias in module.writers.items():
        for parameter, value in weights.items():
            getattr(module, parameter).data.copy_(value)
        hidden = as_tokens(module.hidden(laid(x, module.layout), NOTHING))
        assert hidden.shape == (*x.shape[:2], weights[name][0].numel())
        added = None if bias is None else weights[bias]
        linear = F.linear(hidden, weights[name].flatten(1), added)
        if isinstance(module, BatchNormed):
            scale, shift = module.affine(name)
            linear = linear * scale + shift
        torch.testing.assert_close(linear, given(module, weights, x))


def test_what_an_operator_gives_is_proportional_to_what_it_says(operator: Drawn) -> None:
    module, weights, x = operator
    factor = torch.linspace(-1, 2, x.shape[2], dtype=torch.float64)
    scaled = {n: weights[n] * factor.reshape(-1, *(1,) * (weights[n].dim() - 1)) for n in module.scaling}
    expected = given(module, weights, x) * (factor if module.scaling else 1)
    torch.testing.assert_close(given(module, {**weights, **scaled}, x), expected)


def test_the_stream_bears_what_is_declared_and_no_more(operator: Drawn) -> None:
    """On a stream that is rotated or permuted, operators that are transformed alike do the same."""
    module, weights, x = operator
    n = x.shape[2]
    q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(4), dtype=torch.float64)).Q
    for kind, matrix in (("permutation", torch.eye(n).roll(1, 0).double()), ("rotation", q)):
        mapped = remap(weights, module.axes, {EMBED: Couple(matrix, matrix)})
        before, after = given(module, weights, x) @ matrix.T, given(module, mapped, x @ matrix.T)
        bears = kind in ("permutation", module.stream)
        assert torch.allclose(after, before, rtol=1e-7, atol=1e-9) == bears, (type(module).__name__, kind)


def test_declared_symmetries_keep_the_function_and_are_all_there_are(operator: Drawn) -> None:
    """A permutation that is no rotation bears no rotation; an axis that is not declared bears no permutation."""
    module, weights, x = operator
    assert set(module.symmetries) <= set(sizes(module))
    for axis, size in sizes(module).items():
        declared = module.symmetries.get(axis)
        what = (type(module).__name__, axis, declared, size)
        assert size > 1, "an axis of one entry tells nothing"
        permuted = changes(module, weights, x, turned(module, axis, "permutation"), axis)
        rotated = changes(module, weights, x, turned(module, axis, "rotation"), axis)
        assert permuted == (declared is None), what
        assert rotated == (declared != "rotation"), what


def test_symmetries_hold_all_at_once(operator: Drawn) -> None:
    module, weights, x = operator
    maps = {axis: turned(module, axis, kind) for axis, kind in module.symmetries.items()}
    after = given(module, remap(weights, module.axes, maps), x)
    torch.testing.assert_close(after, given(module, weights, x))


def test_biases_do_nothing_or_pass_through_where_that_is_declared(operator: Drawn) -> None:
    """An idle one never changes the output; behind a convex operator what all values have in common passes through."""
    module, weights, x = operator
    before = given(module, weights, x)
    idle = set()
    for bias in [bias for bias in module.readers.values() if bias is not None]:
        shift = torch.randn(weights[bias].shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        change = given(module, {**weights, bias: weights[bias] + shift}, x) - before
        if float(change.abs().max()) < 1e-9:
            idle.add(bias)
        for writer in module.writers:
            carried = [a and a.name for a in module.axes[bias]] == [a and a.name for a in module.axes[writer][1:]]
            if module.convex and carried:
                passed = weights[writer].flatten(1) @ shift.flatten()
                torch.testing.assert_close(change, passed.expand_as(change), rtol=1e-9, atol=1e-9)
    assert idle == set(module.idle), type(module)


def copy(model: Model) -> Model:
    """Every axis that bears it in another order."""
    network = build(model.architecture, "meta")
    outer, widths = nested(axes_of(network), axis_dims(model.architecture)), axis_sizes(model.architecture)
    generator = torch.Generator().manual_seed(7)
    fixed = {f"{s.place}.{a}" for s in network.walk() for a in sizes(s.operator) if a not in s.operator.symmetries}
    maps: dict[str, Map] = {}
    for axis, size in widths.items():
        if axis in outer:
            orders = torch.rand(widths[outer[axis]], size, generator=generator).argsort(dim=1)
            maps[axis] = SelectWithin(orders, outer[axis])
        elif axis not in fixed:
            maps[axis] = Select(torch.randperm(size, generator=generator))
    return replace(model, weights=remap(model.weights, axes_of(network), maps))


def rotated(model: Model) -> Model:
    """A copy, in canonical form, with streams and channels of heads rotated where they bear it."""
    twin = canonical(copy(model))
    network = build(twin.architecture, "meta")
    generator = torch.Generator().manual_seed(8)
    maps: dict[str, Map] = {}
    for sublayer in network.walk():
        for axis, kind in sublayer.operator.symmetries.items():
            if kind == "rotation":
                map_ = turned(sublayer.operator, axis, "rotation")
                assert isinstance(map_, CoupleWithin)
                maps[f"{sublayer.place}.{axis}"] = replace(map_, along=f"{sublayer.place}.{map_.along}")
    for i, stage in enumerate(twin.architecture.stages):
        if foldable(network, i):
            n = stage.embed
            drawn = torch.randn(n, n, generator=generator, dtype=torch.float64)
            turn = torch.linalg.qr(drawn).Q
            if centred(network, i):
                flat = drawn - drawn.mean(0)  # orthogonal to the ones
                q = torch.linalg.qr(torch.cat([torch.ones(n, 1).double(), flat[:, 1:]], dim=1)).Q
                basis = torch.linalg.qr(torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], dim=1).double()).Q
                turn = q @ basis.T
            maps[f"s{i}.embed"] = Couple(turn, turn)
    ones = {name: twin.weights[name] for name in unit_gains(network)}
    return replace(twin, weights=remap(twin.weights, axes_of(network), maps) | ones)


def test_the_canonical_form_keeps_the_function_and_can_be_undone(combined: Model) -> None:
    for balance in (False, True):
        found = canonical(combined, balance=balance)
        same(found, combined)
        same(canonical(found, balance=balance), combined)
        back = restored(found, combined)
        same(back, combined)
        assert back.architecture == combined.architecture


def test_a_stream_that_may_be_rotated_grows_and_shrinks_again(any_turnable: Architecture) -> None:
    """A wider stream has the old one in it, which its principal directions find again."""
    model, stages = drawn(any_turnable), enumerate(any_turnable.stages)
    wider = {f"s{i}.embed": stage.embed + 3 for i, stage in stages if foldable(skeleton(any_turnable), i)}
    grown = conform(canonical(model), resize(any_turnable, wider))
    same(grown, model)
    same(conform(grown, any_turnable), model)


@pytest.mark.parametrize("stat", ["weights", "activations"])
def test_copies_fuse_into_what_they_are_copies_of(combined: Model, stat: Stat) -> None:
    seen = images(combined.architecture, 60) if stat == "activations" else None
    same(copy(combined), combined)
    if is_refused(combined):
        return
    found = fuse([copy(combined), combined], ["copy", "model"], Settings(method="perm", stat=stat, anchor=2), seen)
    same(found.model, combined)
    twin = restored(rotated(combined), combined)
    same(twin, combined)
    found = fuse([twin, combined], ["twin", "model"], Settings(method="orth", stat=stat, anchor=2), seen)
    # Products of activations do not show directions in which these are below the root of a rounding of the largest.
    same(found.model, combined, 2 * math.sqrt(torch.finfo(torch.float64).eps) if seen is not None else 1e-9)


def is_refused(model: Model) -> bool:
    """Whether it has a matrix among all of the channels of its heads or among their products, or a head of two layers.

    All of them are said.
    """
    parts = [part for _, part in model.architecture.parts()]
    among = any(isinstance(part, Prototypes) or (isinstance(part, Atlas) and part.polynomial) for part in parts)
    if not among and model.architecture.head.hidden is None:
        return False
    with pytest.raises(
        Unsupported, match=r"both within heads, which cannot be aligned together|whose head is one linear map"
    ):
        fuse([model, model], ["a", "b"], Settings(method="perm"))
    return True


def test_all_of_the_weight_on_a_stranger_gives_it_back(combined: Model) -> None:
    if is_refused(combined):
        return
    generator = torch.Generator().manual_seed(9)
    drawn = {n: w + 0.3 * torch.randn(w.shape, generator=generator).double() for n, w in combined.weights.items()}
    drawn |= {name: drawn[name].abs() for name in skeleton(combined.architecture).statistics()}
    stranger = replace(combined, weights=drawn)
    for method in ("perm", "orth"):
        settings = Settings.model_validate({"method": method, "weights": (1, 0), "anchor": 2})
        same(fuse([stranger, combined], ["stranger", "model"], settings).model, stranger)
