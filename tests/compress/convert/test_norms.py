"""Layer norms that become batch norms: what stays, what is found, and what is refused."""

from __future__ import annotations

import pytest
import torch

from tests.networks import normed, of_digits, random_model, wired
from wb.compress.convert.norms import OtherNorms, converted
from wb.core.errors import BadOption
from wb.core.records.norms import LayerNorm, RepNorm, RmsNorm
from wb.data import Dataset
from wb.models.model import Model
from wb.models.passes.base import apply
from wb.models.passes.fold import foldings
from wb.training.recipes.layered import layered


@torch.no_grad()
def test_while_layer_norms_are_all_of_it_the_function_is_the_same(striped: Model, stripes: Dataset) -> None:
    found = apply(OtherNorms(stripes), striped)
    assert found.architecture.norm == found.architecture.last == RepNorm(eps=1e-6)
    assert all(torch.equal(found.weights[name], weight) for name, weight in striped.weights.items())
    x = torch.from_numpy(stripes.train.images[:9])
    network = found.network().train()
    with layered(network, 1.0):
        torch.testing.assert_close(network(x), striped.network()(x))
    folded, kept = foldings(found.architecture)
    assert len(folded) == 5
    assert not kept


@torch.no_grad()
def test_statistics_are_of_training_images(striped: Model, stripes: Dataset) -> None:
    """Of the first norm in float64: every token of the images that all networks are shown."""
    found = apply(OtherNorms(stripes), striped)
    x = striped.network().tokens(torch.from_numpy(stripes.train.images)).flatten(0, 1).double()
    mean, variance = (found.weights[f"stages.0.0.norm1.{name}"].double() for name in ("mean", "variance"))
    torch.testing.assert_close(mean, x.mean(0), rtol=0, atol=0.05 * float(x.std()))
    torch.testing.assert_close(variance, x.var(0), rtol=0.2, atol=1e-3)
    assert not found.weights["stages.0.0.norm1.alpha"]


def test_what_has_none_or_has_them_in_the_stream_is_refused(stripes: Dataset) -> None:
    with pytest.raises(BadOption, match="in a post-norm network norms lie in the stream"):
        converted(wired(of_digits(), "post"))
    with pytest.raises(BadOption, match="no layer norms in front of its sub-layers"):
        OtherNorms(stripes)(random_model(normed(of_digits(), RmsNorm()).model_copy(update={"head": _head()})))
    some = normed(of_digits(), RmsNorm()).with_blocks(
        lambda at, block: block.model_copy(update={"norm": LayerNorm(eps=1e-3)}) if at == "s0.b1" else block
    )
    found = converted(some)
    assert [block.norm for _, _, block in found.blocks()] == [None, RepNorm(eps=1e-3)]
    assert found.norm == found.last == RmsNorm()


def _head() -> object:
    return of_digits().head.model_copy(update={"classes": 3, "labels": ("a", "b", "c")})
