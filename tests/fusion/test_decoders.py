"""Fusion of networks that foresee tokens: copies whose units are permuted fuse to the same function."""

from __future__ import annotations

import pytest
import torch

from tests.catalogue import DECODERS
from tests.networks import prose, random_model
from wb.core.architecture import axis_dims, axis_sizes, resize
from wb.core.errors import Unsupported
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings
from wb.models.axes import Map, Select, SelectWithin, nested
from wb.models.model import Model, remap_model
from wb.models.named import axes_of
from wb.models.network import skeleton

ROTARY = resize(DECODERS["rotary"], {axis: 1 for axis in axis_sizes(DECODERS["rotary"]) if axis.endswith("queries")})
IDS = torch.randint(0, 11, (5, 7), generator=torch.Generator().manual_seed(0))


def twin(model: Model) -> Model:
    """The same function with other units in every place."""
    a, maps = model.architecture, dict[str, Map]()
    generator = torch.Generator().manual_seed(1)
    inside, sizes = nested(axes_of(skeleton(a)), axis_dims(a)), axis_sizes(a)
    for axis, size in sizes.items():
        outer = inside.get(axis)
        count = 1 if outer is None else sizes[outer]
        orders = torch.stack([torch.randperm(size, generator=generator) for _ in range(count)])
        maps[axis] = Select(orders[0]) if outer is None else SelectWithin(orders, outer)
    return remap_model(model, maps)


@pytest.mark.parametrize("method", ["orth", "regress"])
@pytest.mark.parametrize("a", [ROTARY, DECODERS["linear"], DECODERS["softmax-bias-False"]])
def test_permuted_copies_fuse_to_the_same_function(a, method) -> None:  # type: ignore[no-untyped-def]
    """With a head that reads the table of the stem, and with one of its own."""
    model = random_model(a)
    other = twin(model)
    with torch.no_grad():
        wanted = model.network()(IDS)
        torch.testing.assert_close(other.network()(IDS), wanted, rtol=1e-5, atol=1e-5)
        images = torch.from_numpy(prose(a).train.inputs()) if method == "regress" else None
        fused = fuse([model, other], ["a", "b"], Settings(method=method), images).model
        torch.testing.assert_close(fused.network()(IDS), wanted, rtol=1e-3, atol=3e-4)


def test_groups_of_queries_cannot_be_aligned_with_their_channels() -> None:
    models = [random_model(DECODERS["rotary"], seed=seed) for seed in (0, 1)]
    with pytest.raises(Unsupported, match="both within heads"):
        fuse(models, ["a", "b"], Settings(method="orth"))
