"""Settled operators take over the stream that they are added to, where nothing else happens to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.networks import WIRED, assembled, images, random_model
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import ImageInput, Join, Nowhere, PatchStem, Scale
from wb.core.records.ffns import Inverted
from wb.core.records.mixers import Depthwise
from wb.core.records.norms import BatchNorm
from wb.models.groups import carry, settle
from wb.models.network import build


def convolutional(
    image: ImageInput, wiring: str = "pre", join: Join | None = None, reads: str = "fp32"
) -> Architecture:
    mixer = Depthwise.model_validate({"kernel": 3, "reads": reads})
    block = Block(mixer=mixer, ffn=Inverted(mlp=7), norm=BatchNorm(), join=join)
    stage = Stage(embed=6, blocks=(block, block), plane="map")
    ends: dict[str, Any] = {"position": Nowhere(), "last": BatchNorm()}
    return assembled(input=image, stem=PatchStem(patch=1), stages=(stage,), norm=wiring, **ends)


@pytest.mark.parametrize(
    ("wiring", "join", "reads", "carries"),
    [
        ("pre", None, "fp32", True),
        ("pre", Scale(), "fp32", False),
        ("pre", None, "int8", False),
        *((wiring, None, "fp32", False) for wiring in WIRED if wiring != "pre"),
    ],
)
def test_depthwise_filters_carry_the_stream_where_it_is_only_added(
    image: ImageInput, wiring: str, join: Join | None, reads: str, carries: bool
) -> None:
    network = random_model(convolutional(image, wiring, join, reads)).network()
    given = images(network.architecture)
    expected = network(given).detach()
    settle(network)
    torch.testing.assert_close(network(given), expected, rtol=1e-4, atol=1e-4)
    assert [at.operator.carries for at in network.walk()] == [carries, False] * 2
    carry(network.walk())  # once more changes nothing
    torch.testing.assert_close(network(given), expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_not_settled_carries_nothing(image: ImageInput) -> None:
    assert not any(at.operator.carries for at in build(convolutional(image)).walk())
