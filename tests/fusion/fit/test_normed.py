"""What is right already stays; what is not comes nearer to the parents; norms have the statistics of what they see."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.networks import hybrid, images, random_model
from wb.core.architecture import axis_sizes
from wb.core.layout import Layout
from wb.core.records.merges import Conv3x3 as Record
from wb.fusion.fuse import Fused, fuse
from wb.fusion.settings import Settings
from wb.models.axes import Select, remap
from wb.models.merges.conv3 import Conv3x3
from wb.models.model import Model, from_network
from wb.models.named import axes_of
from wb.models.network import skeleton
from wb.models.passes.base import apply
from wb.models.passes.mirror import Mirror
from wb.training.refit.fits import Ridge
from wb.training.refit.normed import Parent, correct_part
from wb.training.statistics import find_from, found_anew

A = hybrid()
PICTURES = images(A, 24)  # one batch, so that statistics of batches are those of all


def with_own_statistics(model: Model) -> Model:
    network = model.network().double()
    find_from(network, [PICTURES.double()])
    return from_network(model.architecture, network, model.history)


def parent(seed: int) -> Model:
    return with_own_statistics(random_model(A, seed, gain=1.0))


def logits(model: Model) -> Tensor:
    network = skeleton(model.architecture)
    with torch.no_grad():
        given: Tensor = torch.func.functional_call(
            network, dict(model.weights), PICTURES.to(next(iter(model.weights.values())))
        )
    return given


def regressed(*models: Model) -> Fused:
    return fuse(models, [f"m{i}" for i in range(len(models))], Settings(method="regress"), PICTURES, keep=True)


@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_stay_what_they_are(mirrored: bool) -> None:
    model = with_own_statistics(apply(Mirror(), parent(0))) if mirrored else parent(0)
    order = {
        name: Select(torch.randperm(size, generator=torch.Generator().manual_seed(i)))
        for i, (name, size) in enumerate(axis_sizes(A).items())
        if name.endswith((".embed", ".mlp", ".width"))
    }
    twin = replace(model, weights=remap(model.weights, axes_of(skeleton(A)), order))
    torch.testing.assert_close(logits(twin), logits(model))
    torch.testing.assert_close(logits(regressed(twin, model).model), logits(model), rtol=1e-6, atol=1e-6)


def test_strangers_come_nearer_to_their_mean_and_norms_have_the_statistics_of_what_they_see() -> None:
    one, other = parent(1), parent(2)
    found, wanted = regressed(one, other), (logits(one) + logits(other)) / 2
    assert found.average is not None
    near, far = ((logits(model) - wanted).norm() for model in (found.model, found.average))
    assert near < far / 2
    again = with_own_statistics(found.model)
    for name in skeleton(A).statistics():
        torch.testing.assert_close(again.weights[name], found.model.weights[name].double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("only", [["up"], None])
def test_norms_that_are_named_take_what_they_see(only: list[str] | None) -> None:
    network = random_model(A).network()
    part = network.at("s0.b1.ffn").operator
    before = {name: weight.clone() for name, weight in part.named_parameters()}
    with found_anew([part], only=only), torch.no_grad():  # type: ignore[list-item]
        part(torch.randn(3, 8, 4, 4))
    changed = {name for name, weight in part.named_parameters() if not torch.equal(weight, before[name])}
    norms = only or ["up", "mid", "down"]
    assert changed == {f"{norm}_{what}" for norm in norms for what in ("mean", "variance")}
    assert not part.training


def test_a_merge_with_an_activation_is_fitted_in_front_of_it() -> None:
    """A spoilt merge becomes its parent again, which the stream behind the activation, half of it zeros, would not tell."""
    merge, x = (
        Conv3x3(Record(activation="relu"), 8, Layout((4, 4), plane="map"), 12).double(),
        torch.randn(24, 8, 4, 4).double(),
    )
    with torch.no_grad():
        for weight in merge.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(0))
        for name in merge.statistics:
            merge.get_parameter(name).abs_().add_(0.1)
        spoilt = deepcopy(merge)
        spoilt.conv.normal_()
        parents = [Parent(1.0, merge, [x], lambda _, values: values.flatten(1))]
        correct_part(spoilt, [x], parents, "parts", lambda w, b: Ridge(w, b, 1e-9), torch.Generator().manual_seed(0))
        torch.testing.assert_close(spoilt(x), merge(x), rtol=1e-4, atol=1e-4)
