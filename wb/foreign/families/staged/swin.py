"""What Swin transformers of all libraries have in common, as an architecture.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021.
Limits: pictures whose sides are multiples of the windows', and queries, keys and values with biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import Classify, ImageInput, LayerNorm, Mlp, Nowhere, PatchStem
from wb.core.records.attention import Window
from wb.core.records.base import Activation
from wb.core.records.merges import NormedMerge


class Windowed(NamedTuple):
    """The numbers of a Swin transformer; `mlps` are the hidden units of each stage, `windows` the sides of its windows."""

    image: ImageInput
    patch: int
    embed: int
    depths: Sequence[int]
    heads: Sequence[int]
    windows: Sequence[int]
    mlps: Sequence[int]
    classes: int
    labels: tuple[str, ...] = ()
    activation: Activation = "gelu"
    eps: float = 1e-5


def windowed(p: Windowed) -> Architecture:
    """The architecture of a Swin transformer: every second block of a stage shifts its windows."""
    norm = LayerNorm(eps=p.eps)
    stages = []
    for i, (depth, heads, mlp, window) in enumerate(zip(p.depths, p.heads, p.mlps, p.windows, strict=True)):
        embed = p.embed * 2**i
        if embed % heads:
            raise Unsupported(f"{embed} channels of stage {i} cannot be divided among {heads} heads")
        channels, ffn = embed // heads, Mlp(mlp=mlp, activation=p.activation)
        mixer = Window(heads=heads, qk=channels, v=channels, window=window)
        blocks = [Block(mixer=mixer.model_copy(update={"shift": j % 2 == 1}), ffn=ffn) for j in range(depth)]
        merge = NormedMerge(eps=p.eps) if i else None
        stages.append(Stage(embed=embed, blocks=tuple(blocks), merge=merge))
    return Architecture(
        input=p.image,
        stem=PatchStem(patch=p.patch),
        stages=tuple(stages),
        head=Classify(classes=p.classes, labels=p.labels),
        norm=norm,
        position=Nowhere(),
        first=norm,
        last=norm,
    )
