"""The published fusion on networks of texts: tables of tokens are transported as patches are, on the tokens that count."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.catalogue import CATALOGUE, DECODERS
from tests.networks import images, random_model
from wb.core.architecture import axis_sizes
from wb.core.errors import BadOption, Unsupported
from wb.fusion.paper.maps import compared
from wb.fusion.paper.paper import Paper
from wb.models.axes import Select
from wb.models.model import remap_model

A = CATALOGUE["text-softmax"]


@pytest.mark.parametrize("stat", ["weights", "activations"])
def test_a_copy_with_its_units_exchanged_comes_back(stat: Any) -> None:
    model, generator = random_model(A), torch.Generator().manual_seed(5)
    sizes = {axis: size for axis, size in axis_sizes(A).items() if axis != "classes"}
    twin = remap_model(model, {axis: Select(torch.randperm(n, generator=generator)) for axis, n in sizes.items()})
    assert not torch.allclose(twin.weights["stem.table"], model.weights["stem.table"])
    moved, plans = Paper(stat, "emd")(twin, model, images(A, 40))
    assert {"patch", "position"} <= plans.keys()
    for name, weight in model.weights.items():
        torch.testing.assert_close(moved.weights[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_padding_is_not_compared() -> None:
    one, two, ids = random_model(A, 1), random_model(A, 2), images(A, 9)
    short, long = (compared(one, two, x, "all") for x in (ids, torch.cat([ids, torch.full((9, 2), -1)], dim=1)))
    for name in ("patch", "s0.b0.q", "s0.b0.o"):
        for a, b in zip(short.similarity(name, standard=True), long.similarity(name, standard=True), strict=True):
            torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b))


def test_windows_and_decoders_are_refused() -> None:
    model, decoder = random_model(A), random_model(DECODERS["softmax-bias-False"])
    with pytest.raises(BadOption, match="tokens 'window_2' is of images"):
        Paper(tokens="window_2")(model, model, images(A, 4))
    with pytest.raises(Unsupported, match="continues texts; ot transports those that classify"):
        Paper("weights")(decoder, decoder, None)
