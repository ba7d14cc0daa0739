"""Plain vision transformers as architectures, from what the layouts of several libraries say alike."""

from __future__ import annotations

from typing import NamedTuple

from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Classify, ImageInput, LayerNorm, Mlp, PatchStem, Scale, Softmax
from wb.core.records.base import Activation


class Plain(NamedTuple):
    """The numbers of a plain vision transformer: `qkv_bias` says whether queries, keys and values have biases."""

    image: ImageInput
    patch: int
    embed: int
    depth: int
    heads: int
    channels: int  # of a head
    mlp: int
    classes: int
    labels: tuple[str, ...] = ()
    activation: Activation = "gelu"
    eps: float = 1e-6
    prefix: int = 1
    pool: str = "first"
    scaled: bool = False  # whether layers have scales
    qkv_bias: bool = True
    entered: bool = False  # whether a norm stands in front of the first block
    pooled: bool = False  # whether the last norm stands behind the pooling


def plain(p: Plain) -> Architecture:
    """The architecture of a plain pre-norm vision transformer."""
    norm = LayerNorm(eps=p.eps)
    block = Block(
        mixer=Softmax(heads=p.heads, qk=p.channels, v=p.channels, qkv_bias=p.qkv_bias),
        ffn=Mlp(mlp=p.mlp, activation=p.activation),
        join=Scale() if p.scaled else None,
    )
    return Architecture(
        input=p.image,
        stem=PatchStem(patch=p.patch),
        stages=(Stage(embed=p.embed, blocks=(block,) * p.depth),),
        head=Classify.model_validate(
            {"classes": p.classes, "labels": p.labels, "pool": p.pool, "normed": "pooled" if p.pooled else "tokens"}
        ),
        norm=norm,
        first=norm if p.entered else None,
        last=norm,
        prefix=p.prefix,
    )
