"""The ViT of vit-pytorch, in its layout with a list of pairs for each layer.

Source: Phil Wang, https://github.com/lucidrains/vit-pytorch, `vit.py` before version 1: patches are flattened pixel by pixel,
each with all channels; heads may be of any width.
Limits: the activation is no tensor, and GELU unless said; so is what is pooled, a class token unless said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.foreign.families.vitlike import Plain, plain
from wb.foreign.family import Family, Seen
from wb.foreign.rule import Rule, norm, pair, rule, within

HEAD, BACK = "h k d -> (h k) d", "d h v -> d (h v)"
BLOCK = (
    *norm("0.norm", "norm1"),
    rule("0.fn.to_qkv.weight", "mixer.wq mixer.wk mixer.wv", HEAD),
    *pair("0.fn.to_out.0", "mixer.wo", "mixer.bo", BACK),
    *norm("1.norm", "norm2"),
    *pair("1.fn.net.0", "ffn.up", "ffn.up_bias"),
    *pair("1.fn.net.3", "ffn.down", "ffn.down_bias"),
)


class VitPytorch(Family):
    """A class token; queries, keys and values without biases."""

    name = "vit-pytorch"
    title = "ViT of vit-pytorch"
    library = "other"
    options = ("heads", "activation", "eps", "pool")

    def recognises(self, seen: Seen) -> bool:
        return {"to_patch_embedding.1.weight", "transformer.layers.0.0.fn.to_qkv.weight"} <= seen.shapes.keys()

    def architecture(self, seen: Seen) -> Architecture:
        embed, pixels = seen.shape("to_patch_embedding.1.weight", 2)
        channels, patch = _patch(pixels)
        size = seen.side(seen.shape("pos_embedding", 3)[1] - 1, patch)
        inner = seen.shape("transformer.layers.0.0.fn.to_qkv.weight", 2)[0] // 3
        heads = seen.heads(inner, each=64, why="vit-pytorch")
        seen.assume("gelu", "in vit-pytorch")
        return plain(
            Plain(
                image=seen.image(channels, size, size),
                patch=patch,
                embed=embed,
                depth=seen.count(r"transformer\.layers\.(\d+)\."),
                heads=heads,
                channels=inner // heads,
                mlp=seen.shape("transformer.layers.0.1.fn.net.0.weight", 2)[0],
                classes=seen.shape("mlp_head.1.weight", 2)[0],
                activation=seen.given.activation or "gelu",
                eps=seen.given.eps or 1e-5,
                pool=seen.given.pool or "first",
                qkv_bias=False,
            )
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule("pos_embedding", "position", "n d -> 1 n d")
        yield rule("cls_token", "cls", "d -> 1 1 d")
        yield from pair("to_patch_embedding.1", "stem.patches", "stem.patches_bias", "d c i j -> d (i j c)")
        for j in range(len(a.stages[0].blocks)):
            yield from within(f"transformer.layers.{j}.", f"stages.0.{j}.", BLOCK)
        yield from norm("mlp_head.0", "norm")
        yield from pair("mlp_head.1", "head", "head_bias")


def _patch(pixels: int) -> tuple[int, int]:
    """Channels and the side of a patch of so many numbers: three channels if they make squares, else one."""
    for channels in (3, 1):
        side = math.isqrt(pixels // channels)
        if side * side * channels == pixels:
            return channels, side
    raise Unsupported(f"patches of {pixels} numbers are no squares of one or three channels")
