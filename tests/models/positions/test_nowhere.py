"""Without positions there is no parameter, and the order of tokens does not matter to softmax attention and a mean."""

from __future__ import annotations

import torch

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Learned, Mlp, Nowhere, PatchStem, Position, Softmax
from wb.models.network import Network, build


def network(image: ImageInput, position: Position) -> Network:
    block = Block(mixer=Softmax(heads=2, qk=3, v=2), ffn=Mlp(mlp=3))
    stages = (Stage(embed=6, blocks=(block,)),)
    built = build(assembled(input=image, stem=PatchStem(patch=2), stages=stages, position=position))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.5)
    return built.double()


def test_there_is_no_parameter(image: ImageInput) -> None:
    learned, nowhere = ({*dict(network(image, one).named_parameters())} for one in (Learned(), Nowhere()))
    assert learned - nowhere == {"position"}
    assert nowhere < learned


@torch.no_grad()
def test_patches_may_be_in_any_order(image: ImageInput) -> None:
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    moved = x.roll((2, 4), dims=(2, 3))  # whole patches
    blind, learned = network(image, Nowhere()), network(image, Learned())
    torch.testing.assert_close(blind(moved), blind(x))
    assert not torch.allclose(learned(moved), learned(x), atol=1e-3)
