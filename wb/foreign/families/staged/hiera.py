"""What Hiera's networks of all libraries have in common, as an architecture and as rules.

Source: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", 2023. The first block of a stage
but the first is a merge with pooled queries and a block that has no mixer.
Limits: pictures, of 2x2 tokens one at every stage's beginning; units are squares, as published ones are: 8 tokens a side in the
first of four stages, half as many in the next; none of one token. Attention over
a whole picture is read at the beginning of a stage if that picture is a square of at most 64 tokens a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import Classify, ImageInput, Join, LayerNorm, Learned, Mixer, Mlp, PatchStem, Position, Softmax
from wb.core.records.attention import MaskUnit
from wb.core.records.base import Activation
from wb.core.records.merges import QPool
from wb.foreign.families.hf import BACK, HEAD, HEAD_BIAS
from wb.foreign.rule import Rule, norm, pair, rule, within

ATTENTION = (
    *pair("attn.qkv", "wq wk wv", "bq bk bv", HEAD, HEAD_BIAS),
    *pair("attn.proj", "wo", "bo", BACK),
)
FFN = (
    *pair("mlp.fc1", "ffn.up", "ffn.up_bias"),
    *pair("mlp.fc2", "ffn.down", "ffn.down_bias"),
)
LARGEST = 64  # side of a picture that a merge attends over as a whole


class Pyramid(NamedTuple):
    """The numbers of a Hiera, where they differ by stage for each.

    `units` says of each stage's blocks, and `entering` of its merge, whether attention is within units; in the first stage
    these have `side` tokens a side.
    """

    image: ImageInput
    stem: PatchStem
    embeds: Sequence[int]
    depths: Sequence[int]
    heads: Sequence[int]
    mlps: Sequence[int]
    side: int
    units: Sequence[bool]
    entering: Sequence[bool]
    classes: int
    labels: tuple[str, ...] = ()
    activation: Activation = "gelu"
    eps: float = 1e-6
    position: Position = Learned()
    join: Join | None = None


def pyramid(p: Pyramid) -> Architecture:
    """The architecture of a Hiera. Raises `Unsupported` for units and pictures that no record has."""
    if (any(p.units) or any(p.entering)) and p.side != (side := side_of(len(p.embeds))):
        raise Unsupported(
            f"its units of {p.side}x{p.side} tokens are no squares, for in {len(p.embeds)} stages its library gathers those of "
            f"{side}x{side}"
        )
    layernorm, stages = LayerNorm(eps=p.eps), []
    rows, columns = p.stem.layout(p.image).shape
    for i, (embed, depth, heads, mlp) in enumerate(zip(p.embeds, p.depths, p.heads, p.mlps, strict=True)):
        if embed % heads:
            raise Unsupported(f"{embed} channels of stage {i} cannot be divided among {heads} heads")
        channels, ffn = embed // heads, Mlp(mlp=mlp, activation=p.activation)
        mixer: Mixer = Softmax(heads=heads, qk=channels, v=channels)
        if p.units[i] and depth > (i > 0):
            mixer = MaskUnit(heads=heads, qk=channels, v=channels, side=_unit(p.side, i))
        blocks = [Block(mixer=None if i and not j else mixer, ffn=ffn, join=p.join) for j in range(depth)]
        merge = None
        if i:
            before = (rows >> (i - 1), columns >> (i - 1))
            side = _unit(p.side, i - 1) if p.entering[i] else _whole(*before)
            merge = QPool(heads=heads, qk=channels, v=channels, side=side, eps=p.eps, scaled=p.join is not None)
        stages.append(Stage(embed=embed, blocks=tuple(blocks), merge=merge))
    return Architecture(
        input=p.image,
        stem=p.stem,
        stages=tuple(stages),
        head=Classify(classes=p.classes, labels=p.labels, normed="pooled"),
        norm=layernorm,
        position=p.position,
        last=layernorm,
    )


def layer(theirs: str, i: int, j: int, norms: tuple[str, str]) -> Iterator[Rule]:
    """The rules of block `j` of stage `i`, whose norms are called `norms`."""
    block = f"stages.{i}.{j}."
    first = f"merges.{i - 1}.layer_scale" if i and not j else f"{block}join1.scale"
    yield rule(f"{theirs}ls1.gamma", first)
    yield rule(f"{theirs}ls2.gamma", f"{block}join2.scale")
    if i and not j:
        merge = f"merges.{i - 1}."
        yield from pair(f"{theirs}{norms[0]}", f"{merge}gain", f"{merge}shift")
        yield from pair(f"{theirs}proj", f"{merge}skip", f"{merge}skip_bias")
        yield from within(theirs, merge, ATTENTION)
    else:
        yield from norm(f"{theirs}{norms[0]}", f"{block}norm1")
        yield from within(theirs, f"{block}mixer.", ATTENTION)
    yield from norm(f"{theirs}{norms[1]}", f"{block}norm2")
    yield from within(theirs, block, FFN)


def switches(found: object, key: str, count: int) -> list[bool]:
    """A switch for each of so many stages, of a file. Raises `BadArtefact` for anything else."""
    if not isinstance(found, list | tuple) or len(found) != count or any(type(one) is not bool for one in found):
        raise BadArtefact(
            f"config.json has {key}={printable(repr(found)[:200], 60)}; expected true or false for each of {count} stages"
        )
    return list(found)


def units_of(a: Architecture) -> list[bool]:
    """Whether the blocks of each stage attend within units; of a stage without such blocks, whether the next merge does."""
    found = []
    for i, stage in enumerate(a.stages):
        mixers = [block.mixer for block in stage.blocks if block.mixer is not None]
        after = a.stages[i + 1].merge if i + 1 < len(a.stages) else None
        rows = a.layout.shape[0] >> i
        within = isinstance(after, QPool) and after.side < rows
        found.append(any(isinstance(mixer, MaskUnit) for mixer in mixers) if mixers else within)
    return found


def side_of(stages: int) -> int:
    """The side of the first stage's units: as many tokens as are pooled to one by the last of so many stages."""
    return 1 << (stages - 1)


def _unit(side: int, stage: int) -> int:
    """The side of a unit in that stage."""
    if side >> stage < 2:
        raise Unsupported(f"units of {side} tokens a side are single tokens in stage {stage}")
    return side >> stage


def _whole(rows: int, columns: int) -> int:
    """The side of a picture that a merge attends over as a whole."""
    if rows != columns or rows > LARGEST or rows % 2:
        raise Unsupported(
            f"a stage begins with attention over {rows}x{columns} tokens; such pictures are read if they are squares with an "
            f"even side of at most {LARGEST}"
        )
    return rows
