"""Fusion of networks that foresee tokens: copies whose units are permuted fuse to the same function."""

from __future__ import annotations

import pytest
import torch

from tests.catalogue import DECODERS
from tests.networks import prose, random_model
from wb.core.architecture import axis_dims, axis_sizes, kind_of_axis, resize
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings
from wb.models.axes import Couple, Map, Select, SelectWithin, nested
from wb.models.model import Model, remap_model
from wb.models.named import axes_of
from wb.models.network import skeleton

ROTARY = resize(DECODERS["rotary"], {axis: 1 for axis in axis_sizes(DECODERS["rotary"]) if axis.endswith("queries")})
GROUPED = [DECODERS[name] for name in ("rotary", "rotary-rms-True", "rotary-qkv_bias-True")]
IDS = torch.randint(0, 11, (5, 7), generator=torch.Generator().manual_seed(0))


def twin(model: Model, but: tuple[str, ...] = ()) -> Model:
    """The same function with other units in every place, `but` on axes of these kinds."""
    a, maps = model.architecture, dict[str, Map]()
    generator = torch.Generator().manual_seed(1)
    inside, sizes = nested(axes_of(skeleton(a)), axis_dims(a)), axis_sizes(a)
    for axis, size in sizes.items():
        if kind_of_axis(axis) in but:
            continue
        outer = inside.get(axis)
        count = 1 if outer is None else sizes[outer]
        orders = torch.stack([torch.randperm(size, generator=generator) for _ in range(count)])
        maps[axis] = Select(orders[0]) if outer is None else SelectWithin(orders, outer)
    return remap_model(model, maps)


@pytest.mark.parametrize("method", ["orth", "regress"])
@pytest.mark.parametrize("a", [ROTARY, *GROUPED, DECODERS["linear"], DECODERS["softmax-bias-False"]])
def test_permuted_copies_fuse_to_the_same_function(a, method) -> None:  # type: ignore[no-untyped-def]
    """With a head that reads the table of the stem, and with one of its own; queries in other places within their groups."""
    model = random_model(a)
    other = twin(model)
    with torch.no_grad():
        wanted = model.network()(IDS)
        torch.testing.assert_close(other.network()(IDS), wanted, rtol=1e-5, atol=1e-5)
        images = torch.from_numpy(prose(a).train.inputs()) if method == "regress" else None
        fused = fuse([model, other], ["a", "b"], Settings(method=method), images).model
        torch.testing.assert_close(fused.network()(IDS), wanted, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("method", ["perm", "orth"])
@pytest.mark.parametrize("a", [ROTARY, DECODERS["rotary"]])
def test_activations_tell_copies_too(a, method) -> None:  # type: ignore[no-untyped-def]
    model = random_model(a)
    seen = torch.from_numpy(prose(a).train.inputs())
    fused = fuse([model, twin(model)], ["a", "b"], Settings(method=method, stat="activations"), seen).model
    with torch.no_grad():
        torch.testing.assert_close(fused.network()(IDS), model.network()(IDS), rtol=1e-3, atol=3e-4)


def test_a_group_that_stands_twice_and_a_query_that_stands_twice_merge_into_what_they_were() -> None:
    """Of unequal numbers of keys and values: the larger network computes the same, and the smaller one gets it back."""
    small = random_model(DECODERS["rotary"])
    a = small.architecture
    sizes = axis_sizes(a)
    heads = [axis for axis in sizes if axis.endswith("heads")]
    queries = [axis for axis in sizes if axis.endswith("queries")]
    twice = {axis: _twice(sizes[axis]) for axis in (*heads, *queries)}
    wide = remap_model(small, twice)
    large = twin(wide, but=("qk",))  # planes of heads that merge are those of one frequency
    assert [axis_sizes(large.architecture)[axis] for axis in (heads[0], queries[0])] == [4, 6]
    with torch.no_grad():
        wanted = small.network()(IDS)
        torch.testing.assert_close(large.network()(IDS), wanted, rtol=1e-4, atol=1e-4)
        for method, other in (("orth", large), ("perm", twin(wide, but=("qk", "v")))):
            settings = Settings.model_validate({"method": method})
            fused = fuse([small, other], ["small", "large"], settings).model
            assert fused.architecture == a
            torch.testing.assert_close(fused.network()(IDS), wanted, rtol=1e-3, atol=3e-4)
        fused = fuse([large, small], ["large", "small"], Settings(method="perm")).model
        assert fused.architecture == large.architecture
        torch.testing.assert_close(fused.network()(IDS), wanted, rtol=1e-3, atol=3e-4)


def _twice(size: int) -> Map:
    """Every entry two times, each read half."""
    write = torch.eye(size, dtype=torch.float64).repeat(2, 1)
    return Couple(write, write / 2)


def test_strangers_with_groups_are_brought_nearer() -> None:
    """Their average at the found maps is nearer to both than that of parts in their own order."""
    one, other = (random_model(DECODERS["rotary"], seed=seed) for seed in (0, 1))
    found = fuse([one, other], ["a", "b"], Settings(method="perm")).alignments[1]
    assert found is not None
    assert sum(found.costs.values()) < sum(found.before.values())
