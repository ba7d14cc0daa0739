"""Query pooling, token by token, and as published."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.models.published import TYPES, Published, check, filled, run_block, unrolled
from wb.core.architecture import Block
from wb.core.layout import Layout
from wb.core.records import LayerNorm, Mlp
from wb.core.records.merges import QPool
from wb.models.layers.planes import as_map
from wb.models.merges.qpool import QPool as Module


def test_the_largest_of_four_queries_asks_the_unit() -> None:
    layout = Layout((4, 8))
    merge = Module(QPool(heads=2, qk=3, v=5, side=4), 6, layout, 7).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in merge.parameters():
            weight.normal_(0, 0.5, generator=generator)
    w = dict(merge.named_parameters())
    x = torch.randn(2, 32, 6, dtype=torch.float64, generator=generator)
    mean, deviation = x.mean(-1, keepdim=True), (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    n = (x - mean) / deviation * w["gain"] + w["shift"]
    q, k, v = (torch.einsum("bnd,hkd->bnhk", n, w[f"w{i}"]) + w[f"b{i}"] for i in "qkv")
    skip = n @ w["skip"].T + w["skip_bias"]
    y = merge(x)
    assert y.shape == (2, 8, 7)
    for place in range(8):
        r, c = divmod(place, 4)
        four = [(2 * r + i) * 8 + 2 * c + j for i in (0, 1) for j in (0, 1)]
        unit = [i * 8 + 4 * (c // 2) + j for i in range(4) for j in range(4)]
        scores = torch.einsum("bhk,bshk->bhs", q[:, four].amax(1), k[:, unit]) / math.sqrt(3)
        attended = torch.einsum("bhs,bshv->bhv", scores.softmax(-1), v[:, unit])
        expected = torch.einsum("bhv,dhv->bd", attended, w["wo"]) + w["bo"] + skip[:, four].amax(1)
        torch.testing.assert_close(y[:, place], expected)
    torch.testing.assert_close(merge(as_map(x, layout)), y)


@pytest.mark.reference
@TYPES
def test_a_block_behind_it_is_the_published_one(reference: Path, kind: torch.dtype, tolerance: float) -> None:
    """Units of 4x4 tokens become units of 2x2."""
    data = Published(reference, "hiera_mask_unit", kind)
    merge = Module(QPool(heads=2, qk=16, v=16, side=4, eps=1e-5), 16, Layout((8, 8)), 32)
    skip = {"skip": data.weight("blk.proj.weight"), "skip_bias": data.weight("blk.proj.bias")}
    filled(merge, data.norm("blk.norm1") | data.attention("blk.attn", 2) | skip)
    with torch.no_grad():
        y = merge(data.given("x"))
    ffn = run_block(
        y,
        Block(ffn=Mlp(mlp=128)),
        Layout((4, 4)),
        LayerNorm(eps=1e-5),
        norm2=data.norm("blk.norm2"),
        ffn=data.mlp("blk.mlp"),
    )
    check(ffn[:, unrolled(4, 1)], data.expected("qpool_block"), tolerance)
