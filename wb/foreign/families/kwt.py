"""The Keyword Transformer: frames of sound features, post-norm.

Source: Berg, O'Connor and Cruz, "Keyword Transformer: A Self-Attention Model for Keyword Spotting", 2021,
https://github.com/ARM-software/keyword-transformer.
Limits: a frame is a row of the picture that it is given, its features the columns; features are not computed from sound.
"""

from __future__ import annotations

from collections.abc import Iterator

from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Classify, LayerNorm, Mlp, PatchStem, Post, Softmax
from wb.foreign.families.timm_vit import BLOCK
from wb.foreign.family import Family, Seen
from wb.foreign.rule import Rule, pair, rule, within


class Kwt(Family):
    """A class token in front of the frames; every sub-layer is followed by a norm."""

    name = "kwt"
    title = "Keyword Transformer"
    library = "other"
    options = ("heads", "activation", "eps")

    def recognises(self, seen: Seen) -> bool:
        names = seen.shapes.keys()
        return {
            "proj.weight",
            "pos_embed",
            "cls_token",
            "blocks.0.attn.qkv.weight",
        } <= names and "norm.weight" not in names

    def architecture(self, seen: Seen) -> Architecture:
        embed, features = seen.shape("proj.weight", 2)
        frames = seen.shape("pos_embed", 3)[1] - 1
        heads = seen.heads(seen.shape("blocks.0.attn.qkv.weight", 2)[0] // 3, each=64, why="the Keyword Transformer")
        seen.assume("gelu_tanh", "in the Keyword Transformer")
        norm = LayerNorm(eps=seen.given.eps or 1e-6)
        bias = "blocks.0.attn.qkv.bias" in seen.shapes
        channels = embed // heads
        block = Block(
            mixer=Softmax(heads=heads, qk=channels, v=channels, qkv_bias=bias),
            ffn=Mlp(mlp=seen.shape("blocks.0.mlp.fc1.weight", 2)[0], activation=seen.given.activation or "gelu_tanh"),
        )
        return Architecture(
            input=seen.image(1, frames, features, features=True),
            stem=PatchStem(patch=1, columns=features),
            stages=(Stage(embed=embed, blocks=(block,) * seen.count(r"blocks\.(\d+)\."), wiring=Post()),),
            head=Classify(classes=seen.classes("head"), pool="first"),
            norm=norm,
            last=None,
            prefix=1,
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule("cls_token", "cls", "d -> 1 1 d")
        yield rule("pos_embed", "position", "n d -> 1 n d")
        yield from pair("proj", "stem.patches", "stem.patches_bias", "d c r f -> d (c r f)")
        for j in range(len(a.stages[0].blocks)):
            yield from within(f"blocks.{j}.", f"stages.0.{j}.", BLOCK)
        yield from pair("head", "head", "head_bias")
