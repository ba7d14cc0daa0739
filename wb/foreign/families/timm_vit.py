"""timm's ViT and DeiT, with or without a distillation token.

Source: timm, `vision_transformer.py` and `deit.py`; original DeiT checkpoints have the same names.
Limits: heads of 64 channels are assumed only where the name of the architecture says so. Class tokens have a position, which
those of DeiT III and of networks with registers have not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported, printable
from wb.core.records.base import Activation
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


ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "relu", "silu")  # as timm calls them too
POOLS = {"token": "first", "avg": "mean"}  # timm's names
CLIP = "_clip_"  # in names of architectures whose norms add 1e-5
REFUSED = {  # parts of names of tensors -> what they are
    "reg_token": "it has registers, tokens without a position",
    "attn_pool.": "its head is attention",
    "patch_embed.backbone.": "its patches are those of a convolutional network",
    ".q_norm.": "its queries and keys have norms",
    "blocks_token_only.": "it is a CaiT, whose class token has blocks of its own",
    ".rel_pos": "its attention has relative positions",
}


class TimmVit(Family):
    """A class token, perhaps a distillation token, and a classifier on each; or one on the mean of the patches."""

    name = "timm-vit"
    title = "ViT or DeiT of timm"
    library = "timm"
    options = ("heads", "activation", "eps", "pool")

    def recognises(self, seen: Seen) -> bool:
        names = seen.shapes.keys()
        ends = "norm.weight" in names or "fc_norm.weight" in names
        return ends and {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed"} <= names

    def architecture(self, seen: Seen) -> Architecture:
        embed, channels, patch, across = seen.shape("patch_embed.proj.weight", 4)
        if patch != across:
            raise Unsupported(f"its patches are {patch}x{across}; square ones are read")
        _check(seen)
        prefix = sum(name in seen.shapes for name in ("cls_token", "dist_token"))
        size = _side(seen, prefix, patch)
        classes = seen.classes("head")
        inner = seen.shape("blocks.0.attn.qkv.weight", 2)[0] // 3
        name = str(seen.config.get("architecture", ""))
        heads = seen.heads(inner, each=64 if USUAL.match(name) else None, why=name)
        clip = "norm_pre.weight" in seen.shapes
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
                activation=seen.given.activation or _activation(seen),
                eps=seen.given.eps or (1e-5 if CLIP in name or (not name and clip) else 1e-6),
                prefix=prefix,
                pool=_pool(seen, prefix),
                entered=clip,
                pooled="fc_norm.weight" in seen.shapes,
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
        yield from norm("norm_pre", "first")
        yield from norm("fc_norm" if a.head.normed == "pooled" else "norm", "norm")
        yield from pair("head", "head", "head_bias")
        yield from pair("head_dist", "second", "second_bias")

    def made(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Tensor]:
        return {} if a.first is None else {"stem.patches_bias": torch.zeros(a.stages[0].embed)}

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        if not config:
            return {}
        sizes = sizes_of(a, self.title, config)
        return timm_config(
            a, config, embed_dim=sizes.embed, depth=sizes.depths[0], num_heads=sizes.heads[0], mlp_ratio=sizes.ratio
        )


def _activation(seen: Seen) -> Activation:
    """What config.json says that feed-forwards apply. Raises `Unsupported` for what no record has."""
    said = seen.model_arguments.get("act_layer")
    found = next((one for one in ACTIVATIONS if one == (said or "gelu")), None)
    if found is None:
        raise Unsupported(
            f"config.json has act_layer={printable(repr(said), 60)}; networks of wb have {', '.join(ACTIVATIONS)}"
        )
    return found


def _pool(seen: Seen, prefix: int) -> str:
    """What the head reads: both tokens where it has two maps, else what is said or, with a class token, that."""
    if "head_dist.weight" in seen.shapes:
        return "pair"
    said = seen.model_arguments.get("global_pool", seen.config.get("global_pool"))
    if "fc_norm.weight" in seen.shapes:
        read = seen.given.pool or POOLS.get(str(said), str(said)) if seen.given.pool or said else "mean"
        if read != "mean":
            raise Unsupported(
                f"its head reads {printable(repr(read), 60)}, and fc_norm.weight is a norm behind the mean of the patches; "
                "networks of wb have such a norm behind the mean alone"
            )
        return "mean"
    if said not in (None, *POOLS):
        raise Unsupported(
            f"config.json has global_pool={printable(repr(said), 60)}; networks of wb have {' or '.join(POOLS)}"
        )
    found = seen.given.pool or (POOLS[said] if said else "first" if prefix else "mean")
    if prefix and not seen.given.pool and not said:
        seen.notes.append(
            "no shape tells what the classifier reads, which is taken to be the class token; --pool says another"
        )
    return found


def _check(seen: Seen) -> None:
    """Raises `Unsupported` for parts that no record has."""
    found = next((what for part, what in REFUSED.items() if any(part in name for name in seen.shapes)), None)
    name = str(seen.config.get("architecture", ""))
    if "quickgelu" in name:
        found = f"it is a {printable(name, 60)}, whose activation is x sigmoid(1.702 x)"
    if found is not None:
        raise Unsupported(f"{found}, which no record of wb has")


def _side(seen: Seen, prefix: int, patch: int) -> int:
    """The side of its images. Raises `Unsupported` where tokens in front of the patches have no position."""
    positions = seen.shape("pos_embed", 3)[1]
    if prefix and math.isqrt(positions) ** 2 == positions and math.isqrt(positions - prefix) ** 2 != positions - prefix:
        raise Unsupported(
            f"its {positions} positions are those of the patches alone, so that its class token has none, as in DeiT III; "
            "networks of wb have one for every token"
        )
    return seen.side(positions - prefix, patch)
