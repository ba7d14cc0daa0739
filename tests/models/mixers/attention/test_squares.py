"""Attention within squares of a picture, with biases for distances, against what it says token by token; and as published."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.published import TYPES, Published, check, run_block, unrolled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Layout
from wb.core.records import Classify, ImageInput, LayerNorm, Mlp, Operator, PatchStem
from wb.core.records.attention import Linear, MaskUnit, Relative, Softmax, Window
from wb.models.axes import Centre, side
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule

EMBED = 6
WIDTHS: dict[str, Any] = {"heads": 2, "qk": 3, "v": 4}


def module(record: Operator, layout: Layout) -> OperatorModule:
    """The operator in float64 with random weights."""
    built = build_operator(record, EMBED, layout).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return built


def tokens(layout: Layout) -> Tensor:
    return torch.randn(2, layout.tokens, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def attended(m: OperatorModule, x: Tensor, layout: Layout, side: int, by: int) -> Tensor:
    """Every token looks at those that are in its window and as near in the picture as they are there."""
    w = dict(m.named_parameters())
    rows, columns = layout.shape
    q, k, v = (torch.einsum("bnd,hkd->bhnk", x, w[f"w{n}"]) + w[f"b{n}"][:, None] for n in "qkv")  # (B, H, N, channels)
    y = torch.zeros_like(v)
    for n in range(layout.tokens):
        r, c = divmod(n, columns)
        seen, scores = [], []
        for other in range(layout.tokens):
            r2, c2 = divmod(other, columns)
            same = all(
                (a - by) % length // side == (b - by) % length // side and (a < by) == (b < by)
                for a, b, length in ((r, r2, rows), (c, c2, columns))
            )
            if same:
                bias: Tensor | float = 0.0
                if "table" in w:
                    centre = [size // 2 for size in w["table"].shape[:2]]
                    bias = w["table"][r - r2 + centre[0], c - c2 + centre[1]]  # (H)
                seen.append(other)
                scores.append((q[:, :, n] * k[:, :, other]).sum(-1) / math.sqrt(q.shape[-1]) + bias)
        weights = torch.stack(scores, dim=-1).softmax(-1)  # (B, H, seen)
        y[:, :, n] = torch.einsum("bhs,bhsv->bhv", weights, v[:, :, seen])
    return torch.einsum("bhnv,dhv->bnd", y, w["wo"]) + w["bo"]


@pytest.mark.parametrize(
    ("record", "shape", "side", "by"),
    [
        (Relative(**WIDTHS), (3, 4), 12, 0),
        (Window(**WIDTHS, window=2), (4, 6), 2, 0),
        (Window(**WIDTHS, window=4, shift=True), (8, 4), 4, 0),
        (Window(**WIDTHS, window=2, shift=True), (4, 6), 2, 1),
        (Window(**WIDTHS, window=3, shift=True), (6, 6), 3, 1),
        (Window(**WIDTHS, window=7, shift=True), (3, 3), 3, 0),
        (MaskUnit(**WIDTHS, side=2), (4, 6), 2, 0),
        (MaskUnit(**WIDTHS, side=8), (2, 4), 2, 0),
    ],
)
def test_tokens_look_at_their_square(record: Operator, shape: tuple[int, int], side: int, by: int) -> None:
    layout = Layout(shape)
    m, x = module(record, layout), tokens(layout)
    torch.testing.assert_close(m(x), attended(m, x, layout, side, by))


def test_mask_units_in_another_order_give_theirs_in_that_order() -> None:
    layout = Layout((4, 4))
    m, x = module(MaskUnit(**WIDTHS, side=2), layout), tokens(layout)
    halves = x.reshape(2, 2, 8, EMBED).flip(1).reshape(2, 16, EMBED)  # the two rows of units
    expected = m(x).reshape(2, 2, 8, EMBED).flip(1).reshape(2, 16, EMBED)
    torch.testing.assert_close(m(halves), expected)


def test_relative_attention_without_biases_is_attention() -> None:
    layout = Layout((3, 4))
    m, plain = module(Relative(**WIDTHS), layout), module(Softmax(**WIDTHS), layout)
    weights = dict(m.named_parameters())
    with torch.no_grad():
        weights["table"].zero_()
    plain.load_state_dict({name: weight for name, weight in weights.items() if name != "table"})
    torch.testing.assert_close(m(tokens(layout)), plain(tokens(layout)))


def test_biases_of_small_windows_are_the_centre_of_large_ones() -> None:
    """A distance has one bias in shared weights, whatever the window."""
    small, large = (module(Window(**WIDTHS, window=window), Layout((8, 8))) for window in (2, 4))
    table = dict(large.named_parameters())["table"]
    assert small.axes["table"][:2] == (side("distances"), side("distances"))
    size = small.sizes["distances"]
    shared = Centre(size)(Centre(size)(table, 0, "side"), 1, "side")
    assert torch.equal(shared, table[2:-2, 2:-2])  # from 4 distances of a place either way to 2


@pytest.mark.parametrize(("qk", "v"), [(2, 3), (16, 16)])  # keys times values first, and queries times keys first
def test_linear_attention_is_the_quadratic_form(qk: int, v: int) -> None:
    layout = Layout((3, 4), 1)
    m, x = module(Linear(heads=2, qk=qk, v=v), layout), tokens(layout)
    w = dict(m.named_parameters())
    q, k, values = (torch.einsum("bnd,hkd->bhnk", x, w[f"w{n}"]) + w[f"b{n}"][:, None] for n in "qkv")
    scores = torch.einsum("bhik,bhjk->bhij", q.relu(), k.relu())
    expected = torch.einsum("bhij,bhjv->bhiv", scores / scores.sum(-1, keepdim=True).clamp(min=1e-30), values)
    torch.testing.assert_close(m(x), torch.einsum("bhnv,dhv->bnd", expected, w["wo"]) + w["bo"])


@pytest.mark.parametrize("record", [Window(**WIDTHS, window=3), MaskUnit(**WIDTHS, side=3)])
def test_squares_that_do_not_fit_are_refused(record: Operator, image: ImageInput) -> None:
    stage = Stage.model_validate({"embed": 4, "blocks": ({"mixer": record},)})
    with pytest.raises(ValueError, match="squares of 3x3, which 4x4 are no multiple of; use mixer"):
        Architecture(input=image, stem=PatchStem(patch=2), stages=(stage,), head=Classify(classes=2))


@pytest.mark.reference
@pytest.mark.parametrize("shift", [False, True])
@TYPES
def test_a_window_block_is_the_published_one(reference: Path, kind: torch.dtype, tolerance: float, shift: bool) -> None:
    data = Published(reference, "swin_block", kind)
    block = Block(mixer=Window(heads=4, qk=8, v=8, window=4, shift=shift), ffn=Mlp(mlp=128))
    table = data.weight("attn.relative_position_bias_table").reshape(7, 7, 4)
    y = run_block(
        data.given("x"),
        block,
        Layout((8, 8)),
        LayerNorm(eps=1e-5),
        norm1=data.norm("norm1"),
        mixer=data.attention("attn", 4) | {"table": table},
        norm2=data.norm("norm2"),
        ffn=data.mlp("mlp"),
    )
    check(y, data.expected(f"block_shift{2 if shift else 0}"), tolerance)


@pytest.mark.reference
@TYPES
def test_a_relative_block_is_the_published_one(reference: Path, kind: torch.dtype, tolerance: float) -> None:
    data = Published(reference, "astroformer_blocks", kind)
    x = data.given("x")  # (B, D, rows, columns)
    table = data.weight("t.attn.rel_pos.relative_position_bias_table").reshape(9, 11, 2)
    y = run_block(
        x.flatten(2).transpose(1, 2),
        Block(mixer=Relative(heads=2, qk=8, v=8), ffn=Mlp(mlp=64)),
        Layout((5, 6)),
        LayerNorm(eps=1e-6),
        norm1=data.norm("t.norm1"),
        mixer=data.attention("t.attn", 2, first=True) | {"table": table},
        norm2=data.norm("t.norm2"),
        ffn=data.mlp("t.mlp"),
    )
    check(y, data.expected("transformer").flatten(2).transpose(1, 2), tolerance)


@pytest.mark.reference
@pytest.mark.parametrize("side", [4, 8])
@TYPES
def test_mask_unit_attention_is_the_published_one(
    reference: Path, kind: torch.dtype, tolerance: float, side: int
) -> None:
    data, order = Published(reference, "hiera_mask_unit", kind), unrolled(8, 2)
    check(data.given("x")[:, order], data.expected("unrolled"), 0)
    built = build_operator(MaskUnit(heads=2, qk=8, v=8, side=side), 16, Layout((8, 8)))
    built.load_state_dict(data.attention("mu" if side == 4 else "gl", 2), assign=True)
    with torch.no_grad():
        y = built(data.given("x"))
    check(y[:, order], data.expected("mu_attn" if side == 4 else "global_attn"), tolerance)
