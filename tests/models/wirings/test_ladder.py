"""The ladder wiring against its formula, and against the published decoder layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.published import TYPES, Published, check
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Classify, ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.norms import RmsNorm
from wb.core.records.wirings import Ladder
from wb.models.block import build_wiring
from wb.models.network import Network, build
from wb.models.walk import Sublayer

MIXER, FFN = Softmax(heads=2, qk=3, v=2), Mlp(mlp=5)
BLOCKS = {
    "both": (Block(mixer=MIXER, ffn=FFN), Block(mixer=MIXER, ffn=FFN)),
    "mixer": (Block(mixer=MIXER), Block(mixer=MIXER, ffn=FFN)),
    "ffn": (Block(), Block(mixer=MIXER, ffn=FFN), Block(), Block(ffn=FFN)),
}


def network(image: ImageInput, blocks: tuple[Block, ...], *, sequential: bool = False) -> Network:
    stage = Stage(embed=6, blocks=blocks, wiring=Ladder(sequential=sequential))
    built = build(Architecture(input=image, stem=PatchStem(patch=2), stages=(stage,), head=Classify(classes=3)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.4, generator=generator)
    return built.eval()


def by_formula(built: Network, x: Tensor, *, sequential: int = 0, without: str = "") -> Tensor:
    """s_j = s_{j-1} + f_j(norm(s_{j-2})); the first so many sub-layers read s_{j-1}."""
    streams = [x, x]
    for j, at in enumerate(at for at in built.walk() if at.name != without):
        read = streams[-1] if j < sequential else streams[-2]
        streams.append(streams[-1] + at.operator(at.norm(read)))
    return streams[-1]


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blocks", BLOCKS)
@torch.no_grad()
def test_sublayers_read_what_was_before_the_last_addition(image: ImageInput, pictures: Tensor, blocks: str) -> None:
    built = network(image, BLOCKS[blocks])
    torch.testing.assert_close(built(pictures), built.answered(by_formula(built, built.tokens(pictures))))


@pytest.mark.parametrize(("blocks", "first"), [("both", 2), ("mixer", 1), ("ffn", 2)])
@torch.no_grad()
def test_the_first_block_may_be_an_ordinary_one(image: ImageInput, pictures: Tensor, blocks: str, first: int) -> None:
    built = network(image, BLOCKS[blocks], sequential=True)
    expected = by_formula(built, built.tokens(pictures), sequential=first)
    torch.testing.assert_close(built(pictures), built.answered(expected))


@torch.no_grad()
def test_what_is_skipped_leaves_the_ladder_of_the_others(image: ImageInput, pictures: Tensor) -> None:
    built = network(image, BLOCKS["both"])
    for name in ("s0.b0.mixer", "s0.b0.ffn", "s0.b1.mixer", "s0.b1.ffn"):
        found = built.run(pictures, lambda state, at: at.wiring.skip(state, at) if at.name == name else at(state))  # noqa: B023
        expected = by_formula(built, built.tokens(pictures), without=name)
        torch.testing.assert_close(found, built.answered(expected))


@torch.no_grad()
def test_one_sublayer_is_an_ordinary_one(image: ImageInput, pictures: Tensor) -> None:
    ladder, ordinary = (network(image, (Block(ffn=FFN),), sequential=s) for s in (False, True))
    torch.testing.assert_close(ladder(pictures), ordinary(pictures), rtol=0, atol=0)


@pytest.mark.reference
@TYPES
@torch.no_grad()
def test_it_is_the_published_one(image: ImageInput, reference: Path, kind: torch.dtype, tolerance: float) -> None:
    """Four decoder layers, whose attention with rotations and shared keys stands here."""
    data = Published(reference, "ladder_residual", kind)
    block = Block(mixer=MIXER, ffn=FFN)
    mixer, ffn, *_ = network(image, (block,)).walk()
    wiring = build_wiring(Stage(embed=16, blocks=(block,) * 4, wiring=Ladder(sequential=True)))
    state = wiring.begin(data.given("x"), 0)
    for i in range(4):
        for at, name, norm in ((mixer, "attn", "input"), (ffn, "mlp", "post_attention")):
            gain = data.weight(f"layers.{i}.{norm}_layernorm.weight")
            here: Sublayer = replace(at, block=i, norm=rms(gain))  # type: ignore[arg-type]
            read = wiring.read(state, here)
            given = attention(data, i, read) if name == "attn" else mlp(data, i, read)
            state = wiring.add(state, here, given)
            check(state.stream, data.expected(f"{name}_stream_{i}"), tolerance)


def rms(gain: Tensor) -> Callable[[Tensor], Tensor]:
    """As published: in float32, whatever the type."""

    def normed(x: Tensor) -> Tensor:
        y = x.float()
        return gain * (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + RmsNorm().eps)).to(x)

    return normed


def attention(data: Published, i: int, x: Tensor) -> Tensor:
    q, k, v = (F.linear(x, data.weight(f"layers.{i}.self_attn.{n}_proj.weight")) for n in "qkv")
    q, k, v = (y.reshape(2, 7, -1, 4).transpose(1, 2) for y in (q, k, v))
    q, k = (y * data.given("cos")[:, None] + turned(y) * data.given("sin")[:, None] for y in (q, k))
    k, v = (y.repeat_interleave(2, dim=1) for y in (k, v))
    scores = q @ k.mT / 2 + data.given("mask")
    y = (scores.softmax(dim=-1, dtype=torch.float32).to(v) @ v).transpose(1, 2).flatten(2)
    return F.linear(y, data.weight(f"layers.{i}.self_attn.o_proj.weight"))


def turned(y: Tensor) -> Tensor:
    return torch.cat([-y[..., 2:], y[..., :2]], dim=-1)


def mlp(data: Published, i: int, x: Tensor) -> Tensor:
    gate, up, down = (data.weight(f"layers.{i}.mlp.{n}_proj.weight") for n in ("gate", "up", "down"))
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
