"""The parallel wiring against its formula, whole and with sub-layers missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Classify, ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.wirings import Parallel
from wb.models.network import Network, build

MIXER, FFN = Softmax(heads=2, qk=3, v=2), Mlp(mlp=5)
BLOCKS = {
    "both": (Block(mixer=MIXER, ffn=FFN), Block(mixer=MIXER, ffn=FFN)),
    "mixer": (Block(mixer=MIXER), Block(mixer=MIXER, ffn=FFN)),
    "ffn": (Block(mixer=MIXER, ffn=FFN), Block(), Block(ffn=FFN)),
}


def network(image: ImageInput, blocks: tuple[Block, ...]) -> Network:
    stage = Stage(embed=6, blocks=blocks, wiring=Parallel())
    built = build(Architecture(input=image, stem=PatchStem(patch=2), stages=(stage,), head=Classify(classes=3)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.4, generator=generator)
    return built.eval()


def by_formula(built: Network, x: Tensor, without: str = "") -> Tensor:
    """x + mixer(norm1(x)) + ffn(norm2(x)), block by block."""
    for j, block in enumerate(built.blocks(0)):
        added = [
            getattr(block, kind)(getattr(block, norm)(x))
            for kind, norm in (("mixer", "norm1"), ("ffn", "norm2"))
            if getattr(block, kind) is not None and f"s0.b{j}.{kind}" != without
        ]
        x = x + torch.stack(added).sum(0) if added else x
    return x


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blocks", BLOCKS)
@torch.no_grad()
def test_sublayers_read_what_the_block_was_given(image: ImageInput, pictures: Tensor, blocks: str) -> None:
    built = network(image, BLOCKS[blocks])
    torch.testing.assert_close(built(pictures), built.answered(by_formula(built, built.tokens(pictures))))


@pytest.mark.parametrize("name", ["s0.b0.mixer", "s0.b0.ffn", "s0.b1.mixer", "s0.b1.ffn"])
@torch.no_grad()
def test_what_is_skipped_leaves_the_others_their_input(image: ImageInput, pictures: Tensor, name: str) -> None:
    built = network(image, BLOCKS["both"])
    found = built.run(pictures, lambda state, at: at.wiring.skip(state, at) if at.name == name else at(state))
    torch.testing.assert_close(found, built.answered(by_formula(built, built.tokens(pictures), without=name)))
