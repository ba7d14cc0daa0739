"""What stands at the two ends of a network: prefix, positions, the first and the last norm, and what a head reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.records import Classify, ImageInput, LayerNorm, Mlp, PatchStem
from wb.models.named import axes_of
from wb.models.network import Network, build


def network(image: ImageInput, **fields: Any) -> Network:
    """One block between the ends, with random weights."""
    stages = (Stage(embed=6, blocks=(Block(ffn=Mlp(mlp=3)),)),)
    built = build(assembled(input=image, stem=PatchStem(patch=2), stages=stages, **fields))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return built


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("prefix", [0, 1, 3])
@torch.no_grad()
def test_tokens_are_prefix_and_patches_with_their_places(image: ImageInput, pictures: Tensor, prefix: int) -> None:
    built = network(image, prefix=prefix)
    patches = built.stem(built.normalised(pictures)).flatten(2).transpose(1, 2)
    for i, one in enumerate(built.tokens(pictures)):
        there = [patches[i]] if built.cls is None else [built.cls.reshape(prefix, 6), patches[i]]
        torch.testing.assert_close(one, torch.cat(there) + built.position)


def test_one_token_in_front_has_the_shape_it_had_in_format_1(image: ImageInput) -> None:
    shapes = [tuple(dict(network(image, prefix=n).named_parameters())["cls"].shape) for n in (1, 2)]
    assert shapes == [(6,), (2, 6)]
    assert [len(axes_of(network(image, prefix=n))["cls"]) for n in (1, 2)] == [1, 2]


@torch.no_grad()
def test_the_first_norm_stands_behind_the_positions(image: ImageInput, pictures: Tensor) -> None:
    bare, normed = network(image), network(image, first=LayerNorm(eps=0.1))
    normed.load_state_dict(bare.state_dict(), strict=False)
    w = dict(normed.named_parameters())
    expected = F.layer_norm(bare.tokens(pictures), (6,), w["first.gain"], w["first.shift"], 0.1)
    torch.testing.assert_close(normed.tokens(pictures), expected)


@pytest.mark.parametrize("last", [None, LayerNorm(eps=0.1)])
@pytest.mark.parametrize(("pool", "prefix"), [("mean", 0), ("mean", 2), ("cls", 2)])
@torch.no_grad()
def test_a_head_reads_the_first_token_or_the_mean_of_those_with_a_place(
    image: ImageInput, pool: str, prefix: int, last: LayerNorm | None
) -> None:
    built = network(image, pool=pool, prefix=prefix, last=last)
    x = torch.randn(3, prefix + 16, 6, generator=torch.Generator().manual_seed(2))
    w = dict(built.named_parameters())
    if last is not None:
        normed = F.layer_norm(x, (6,), w["norm.gain"], w["norm.shift"], 0.1)
    else:
        normed = x
        assert "norm.gain" not in w
    pooled = normed[:, 0] if pool == "cls" else torch.stack([one[prefix:].mean(0) for one in normed])
    torch.testing.assert_close(built.answered(x), pooled @ w["head"].T + w["head_bias"])


@torch.no_grad()
def test_the_last_norm_may_stand_behind_the_pooling(image: ImageInput) -> None:
    head = Classify(classes=3, normed="pooled")
    built = network(image, head=head, prefix=1, last=LayerNorm(eps=0.1))
    x, w = torch.randn(3, 17, 6, generator=torch.Generator().manual_seed(2)), dict(built.named_parameters())
    pooled = F.layer_norm(x[:, 1:].mean(1), (6,), w["norm.gain"], w["norm.shift"], 0.1)
    torch.testing.assert_close(built.answered(x), pooled @ w["head"].T + w["head_bias"])
    with pytest.raises(ValueError, match="there is no last norm"):
        network(image, head=head, last=None)
    with pytest.raises(ValueError, match="normed='tokens'"):
        Classify(classes=3, pool="first", normed="pooled")


@torch.no_grad()
def test_a_block_may_have_a_norm_of_its_own(image: ImageInput) -> None:
    stages = (Stage(embed=6, blocks=(Block(ffn=Mlp(mlp=3), norm=LayerNorm(eps=0.5)), Block(ffn=Mlp(mlp=3)))),)
    built = build(assembled(input=image, stem=PatchStem(patch=2), stages=stages, norm_eps=0.25))
    assert [at.norm.record for at in built.walk()] == [LayerNorm(eps=0.5), LayerNorm(eps=0.25)]
