"""timm's ViT and DeiT, with or without a distillation token.

Source: timm, `vision_transformer.py` and `deit.py`; original DeiT checkpoints have the same names.
Limits: heads of 64 channels are assumed only where the name of the architecture says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.foreign.families.sizes import sizes_of
from wb.foreign.families.vitlike import Plain, plain
from wb.foreign.family import Family, Seen, timm_config
from wb.foreign.rule import Rule, norm, pair, rule, within

USUAL = re.compile(r"(vit|deit3?)_(tiny|small|base|large)")  # architectures with 64 channels in every head
HEAD, HEAD_BIAS, BACK = "h k d -> (h k) d", "h k -> (h k)", "d h v -> d (h v)"
BLOCK = (
    *norm("norm1", "norm1"),
    *pair("attn.qkv", "mixer.wq mixer.wk mixer.wv", "mixer.bq mixer.bk mixer.bv", HEAD, HEAD_BIAS),
    *pair("attn.proj", "mixer.wo", "mixer.bo", BACK),
    rule("ls1.gamma", "join1.scale"),
    *norm("norm2", "norm2"),
    *pair("mlp.fc1", "ffn.up", "ffn.up_bias"),
    *pair("mlp.fc2", "ffn.down", "ffn.down_bias"),
    rule("ls2.gamma", "join2.scale"),
)


class TimmVit(Family):
    """A class token, perhaps a distillation token, and a classifier on each."""

    name = "timm-vit"
    title = "ViT or DeiT of timm"
    library = "timm"
    options = ("heads", "activation", "eps", "pool")

    def recognises(self, seen: Seen) -> bool:
        return {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed", "norm.weight"} <= seen.shapes.keys()

    def architecture(self, seen: Seen) -> Architecture:
        embed, channels, patch, across = seen.shape("patch_embed.proj.weight", 4)
        if patch != across:
            raise Unsupported(f"its patches are {patch}x{across}; square ones are read")
        prefix = sum(name in seen.shapes for name in ("cls_token", "dist_token"))
        size = seen.side(seen.shape("pos_embed", 3)[1] - prefix, patch)
        classes = seen.shape("head.weight", 2)[0]
        inner = seen.shape("blocks.0.attn.qkv.weight", 2)[0] // 3
        name = str(seen.config.get("architecture", ""))
        heads = seen.heads(inner, each=64 if USUAL.match(name) else None, why=name)
        if not name:
            seen.assume("gelu", "in timm's networks")
        return plain(
            Plain(
                image=seen.image(channels, size, size),
                patch=patch,
                embed=embed,
                depth=seen.count(r"blocks\.(\d+)\."),
                heads=heads,
                channels=inner // heads,
                mlp=seen.shape("blocks.0.mlp.fc1.weight", 2)[0],
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.given.activation or "gelu",
                eps=seen.given.eps or 1e-6,
                prefix=prefix,
                pool=_pool(seen, prefix),
                scaled="blocks.0.ls1.gamma" in seen.shapes,
                qkv_bias="blocks.0.attn.qkv.bias" in seen.shapes,
            )
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule("cls_token dist_token" if a.prefix == 2 else "cls_token", "cls", "d -> 1 1 d")
        yield rule("pos_embed", "position", "n d -> 1 n d")
        yield from pair("patch_embed.proj", "stem.patches", "stem.patches_bias")
        for j in range(len(a.stages[0].blocks)):
            yield from within(f"blocks.{j}.", f"stages.0.{j}.", BLOCK)
        yield from norm("norm", "norm")
        yield from pair("head", "head", "head_bias")
        yield from pair("head_dist", "second", "second_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        if not config:
            return {}
        sizes = sizes_of(a, self.title, config)
        return timm_config(
            a, config, embed_dim=sizes.embed, depth=sizes.depths[0], num_heads=sizes.heads[0], mlp_ratio=sizes.ratio
        )


def _pool(seen: Seen, prefix: int) -> str:
    """What the head reads: both tokens where it has two maps, else what is given or, with a class token, that."""
    if "head_dist.weight" in seen.shapes:
        return "pair"
    return seen.given.pool or ("first" if prefix else "mean")
