"""One small architecture for everything that the catalogue of operators and stems knows: a new one is tested by existing.

So is a new setting: a switch of a record, or a choice between words, has an architecture for every other value.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple, TypeVar, get_args

from tests.networks import answering, assembled, joined, normed, wired
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Layout
from wb.core.records import (
    FFNS,
    IMAGE_STEMS,
    JOINS,
    MERGES,
    MIXERS,
    NORMS,
    POSITIONS,
    WIRINGS,
    Classify,
    ConvStem,
    Cosformer,
    EmbedStem,
    ImageInput,
    Language,
    LayerNorm,
    Merge,
    Mlp,
    Norm,
    Nowhere,
    Operator,
    Part,
    PatchStem,
    Pool,
    Scale,
    Sinusoid,
    Softmax,
    Stem,
    TextInput,
    Unnormed,
    kernels,
    kind_of,
)
from wb.core.records.attention import Linear
from wb.core.records.ffns import Glu, Inverted, Squeeze
from wb.core.records.heads import Hidden
from wb.core.records.merges import Point, QPool
from wb.core.records.mixers import Depthwise, Performer
from wb.core.records.norms import BatchNorm, RmsNorm

P = TypeVar("P", bound=Part)
MET = 0.25  # the share of the other pairs of a mixer and a wiring
TEXT = TextInput(vocabulary=11, length=7, tokens=4)
IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))


def architecture(
    mixer: Operator | None,
    stem: Stem,
    *,
    ffn: Operator | None = None,
    pool: str = "mean",
    stages: int = 1,
    norm: str = "pre",
    **fields: Any,
) -> Architecture:
    """Two blocks of that mixer with one that is switched off between them; further stages have one block."""
    block = Block.model_validate({"mixer": mixer, "ffn": ffn or Mlp.sample()})
    bare = Block.model_validate({"mixer": mixer})
    first = Stage(embed=8, blocks=(block, Block(), bare))
    rest = tuple(Stage(embed=12, blocks=(block,)) for _ in range(stages - 1))
    return assembled(
        stem=stem,
        stages=(first, *rest),
        labels=("a", "b", "c"),
        pool=pool,
        norm=norm,
        **{"input": IMAGE, **fields},
    )


def settings(record: P, *, activations: bool = True) -> Iterator[tuple[str, P]]:
    """The record with every other value of a switch or of a choice between words, called by that; of activations if wanted."""
    for name, field in type(record).model_fields.items():
        if name == "activation" and not activations:
            continue
        words = get_args(field.annotation)
        if field.annotation is bool:
            yield f"{name}-{not getattr(record, name)}", record.model_copy(update={name: not getattr(record, name)})
        elif len(words) > 1 and name not in ("reads", "writes") and all(isinstance(word, str) for word in words):
            for word in words:
                if word != getattr(record, name):
                    yield word, record.model_copy(update={name: word})


def catalogue() -> Iterator[tuple[str, Architecture]]:
    """Every mixer behind two stems, in another wiring, with a class token and in two stages where it allows that; and softmax
    attention in all wirings; every feed-forward, and every stem."""
    of_pictures = [kind for kind in MIXERS if "tokens" in kind.supports.planes and kind.supports.grid]
    for i, kind in enumerate(of_pictures):
        record = kind.sample()
        name = kind_of(kind)
        for stem in IMAGE_STEMS if kind is of_pictures[0] else IMAGE_STEMS[: 2 if kind is Softmax else 1]:
            yield f"{name}-{kind_of(stem)}", architecture(record, stem.sample())
        yield f"{name}-conv4", architecture(record, ConvStem(patch=4, width=5))
        yield f"{name}-stages", architecture(record, PatchStem(patch=2), stages=2)
        for j, wiring in enumerate(map(kind_of, WIRINGS[1:])):
            met = f"{name}-{wiring}"  # one wiring in any case, and some of the others, always the same
            if kind is Softmax or j == i % len(WIRINGS[1:]) or Random(met).random() < MET:
                yield met, architecture(record, PatchStem(patch=2), norm=wiring)
        if kind.supports.prefix:
            yield f"{name}-cls", architecture(record, PatchStem(patch=4), pool="cls")
        for setting, other in settings(record):
            yield f"{name}-{setting}", architecture(other, PatchStem(patch=2))
    for i, ffn in enumerate(ffn for ffn in FFNS if "tokens" in ffn.supports.planes):
        yield f"{kind_of(ffn)}-alone", architecture(None, PatchStem(patch=2), ffn=ffn.sample())
        for setting, one in settings(ffn.sample(), activations=i == 0):  # all parts take them from one table
            yield f"{kind_of(ffn)}-{setting}", architecture(Softmax.sample(), PatchStem(patch=2), ffn=one)
    yield from with_ends()
    yield from with_positions()
    for norm in [norm for norm in NORMS[1:] if norm is not Unnormed]:
        yield from with_norm(kind_of(norm), norm.sample())
    yield from with_scales()
    yield from with_gates()
    yield from with_maps()
    yield from with_texts()


def with_ends() -> Iterator[tuple[str, Architecture]]:
    """Prefix tokens, a first norm, norms of blocks of their own, no last norm, and two stages in every wiring."""
    softmax = Softmax.sample()
    yield "softmax-post-cls", architecture(softmax, ConvStem(patch=4, width=5), pool="cls", norm="post")
    yield "softmax-prefix", architecture(softmax, PatchStem(patch=2), prefix=2)
    yield "softmax-prefix-first", architecture(softmax, PatchStem(patch=2), pool="cls", prefix=3)
    yield "softmax-pair", answering(architecture(softmax, PatchStem(patch=2), prefix=2), pool="pair")
    yield "softmax-columns", architecture(softmax, PatchStem(patch=2, columns=4))
    yield "softmax-first", architecture(softmax, ConvStem(patch=2, width=5), first=LayerNorm(eps=1e-3))
    own = architecture(softmax, PatchStem(patch=2))
    yield "softmax-own-norm", own.with_blocks(lambda _, block: block.model_copy(update={"norm": LayerNorm(eps=1e-2)}))
    yield "softmax-pooled-norm", answering(architecture(softmax, ConvStem(patch=4, width=5), prefix=1), normed="pooled")
    yield "softmax-no-last", architecture(softmax, PatchStem(patch=2, kernel=3, padding=1), last=None)
    seen_twice = IMAGE.model_copy(update={"mirrored": True})
    yield "softmax-mirrored", architecture(softmax, PatchStem(patch=2)).model_copy(update={"input": seen_twice})
    overlapping = PatchStem(patch=2, kernel=5, padding=2)
    yield "map-mirrored", mapped(None, Inverted.sample(), stem=overlapping).model_copy(update={"input": seen_twice})
    for wiring in map(kind_of, WIRINGS[1:]):
        yield f"softmax-{wiring}-stages", architecture(softmax, PatchStem(patch=2), stages=2, norm=wiring)


def mapped(mixer: Operator | None, ffn: Operator | None, merge: Merge | None = None, **fields: Any) -> Architecture:
    """Two blocks on a map with one that is switched off between them; behind a `merge` another map, and one of tokens."""
    block = Block.model_validate({"mixer": mixer, "ffn": ffn, "norm": BatchNorm()})
    stages = [Stage(embed=8, blocks=(block, Block(), block), plane="map")]
    if merge is not None:
        stages.append(Stage(embed=12, blocks=(block,), plane="map", merge=merge))
        attending = Block(mixer=Softmax.sample(), ffn=Mlp.sample())
        stages.append(Stage(embed=6, blocks=(attending,), merge=merge))
    last: Norm = BatchNorm() if merge is None else LayerNorm()
    stem = PatchStem(patch=2 if merge is None else 1)  # so that more than one token is left
    fields = {"stem": stem, "position": Nowhere(), "last": last, **fields}
    return assembled(**{"input": IMAGE, "stages": tuple(stages), "labels": ("a", "b", "c"), **fields})


def with_maps() -> Iterator[tuple[str, Architecture]]:
    """Every mixer and feed-forward of maps with every side of its kernel, and maps behind every stem, in front of every merge."""
    depthwise, inverted = Depthwise.sample(), Inverted.sample()
    for kind in [kind for kind in MIXERS if "map" in kind.supports.planes]:
        yield f"map-{kind_of(kind)}", mapped(kind.sample(), inverted)
        for side, other in sides(kind.sample()):
            yield f"map-{kind_of(kind)}-{side}", mapped(other, inverted)
    for i, ffn in enumerate(ffn for ffn in FFNS if "map" in ffn.supports.planes):
        yield f"map-{kind_of(ffn)}-alone", mapped(None, ffn.sample())
        for setting, other in (*settings(ffn.sample(), activations=i == 0), *sides(ffn.sample())):
            yield f"map-{kind_of(ffn)}-{setting}", mapped(depthwise, other)
    for stem in IMAGE_STEMS:
        yield f"map-{kind_of(stem)}-stem", mapped(depthwise, inverted, stem=stem.sample())
    for merge in MERGES:
        yield f"map-{kind_of(merge)}-merge", mapped(depthwise, inverted, merge.sample())
        if merge.odd:
            six = IMAGE.model_copy(update={"height": 6, "width": 6})
            yield f"map-{kind_of(merge)}-odd", mapped(depthwise, inverted, merge.sample(), input=six)
    yield "map-qpool-scaled", mapped(depthwise, inverted, QPool(**QPool.example, scaled=True))
    a = mapped(depthwise, inverted)
    end = Stage(
        embed=12, blocks=(), plane="map", merge=Point(pooled=True)
    )  # a single token, to which no mixer is added
    yield "map-point-pooled", a.model_copy(update={"stages": (*a.stages, end)})
    for gate in get_args(Squeeze.model_fields["gate"].annotation):
        yield f"map-inverted-se-{gate}", mapped(None, Inverted(mlp=9, kernel=3, se=Squeeze(width=5, gate=gate)))
    yield "map-pooled-norm", mapped(depthwise, inverted, last=LayerNorm(), head=Classify(classes=3, normed="pooled"))
    yield "map-scale", joined(mapped(depthwise, inverted), Scale.sample())
    yield "map-post", wired(mapped(Pool.sample(), inverted), "post")


def sides(record: Operator) -> Iterator[tuple[str, Operator]]:
    """The record with every other side of its kernels, called by that."""
    for name in kernels(type(record)):
        for side in get_args(type(record).model_fields[name].annotation):
            if side != getattr(record, name):
                yield f"{name}-{side}", record.model_copy(update={name: side})


def with_positions() -> Iterator[tuple[str, Architecture]]:
    """Every other kind of position behind a convolutional stem, with prefix tokens, and in two stages."""
    softmax, stem = Softmax.sample(), PatchStem(patch=2)
    for kind in POSITIONS[1:]:
        name, position = kind_of(kind), kind.sample()
        yield f"softmax-{name}", architecture(softmax, ConvStem(patch=2, width=5), position=position)
        yield f"softmax-{name}-prefix", architecture(softmax, stem, pool="cls", prefix=2, position=position)
        yield f"softmax-{name}-stages", architecture(softmax, stem, stages=2, position=position)


def with_norm(name: str, norm: Norm) -> Iterator[tuple[str, Architecture]]:
    """That norm in front and behind, in two stages, in front of what has no weights, and on one stream with LayerNorm."""
    softmax, stem = Softmax.sample(), PatchStem(patch=2)
    for wiring in map(kind_of, WIRINGS[:2]):
        yield f"softmax-{name}-{wiring}", normed(architecture(softmax, stem, norm=wiring), norm)
    yield f"softmax-{name}-stages", normed(architecture(softmax, stem, stages=2), norm)
    yield f"pool-{name}", normed(architecture(Pool.sample(), stem), norm)
    both = architecture(softmax, stem, stages=2)
    yield (
        f"softmax-{name}-some",
        both.with_blocks(lambda at, block: block.model_copy(update={"norm": norm if at == "s0.b0" else None})),
    )


def with_scales() -> Iterator[tuple[str, Architecture]]:
    """Layer scales in every wiring, in two stages, behind linear attention, and behind what has no weights."""
    stem, channel, layer = PatchStem(patch=2), Scale.sample(), Scale(per="layer")
    for wiring in map(kind_of, WIRINGS):
        yield f"softmax-scale-{wiring}", joined(architecture(Softmax.sample(), stem, norm=wiring), channel)
    yield "softmax-scale-stages", joined(architecture(Softmax.sample(), stem, stages=2), channel)
    yield "softmax-scale-layer", joined(architecture(Softmax.sample(), stem), layer)
    yield "softmax-scale-rms", joined(normed(architecture(Softmax.sample(), stem), RmsNorm()), channel)
    yield "cosformer-scale", joined(architecture(Cosformer.sample(), stem), channel)
    yield "cosformer-scale-layer-post", joined(architecture(Cosformer.sample(), stem, norm="post"), layer)
    yield "pool-scale", joined(architecture(Pool.sample(), stem), channel)


def with_gates() -> Iterator[tuple[str, Architecture]]:
    """Every other join in every wiring, on a map, on texts, behind what has no weights, and with every other setting."""
    stem = PatchStem(patch=2)
    for kind in JOINS[1:]:
        name, join = kind_of(kind), kind.sample()
        for wiring in map(kind_of, WIRINGS):
            yield f"softmax-{name}-{wiring}", joined(architecture(Softmax.sample(), stem, norm=wiring), join)
        yield f"pool-{name}", joined(architecture(Pool.sample(), stem), join)
        yield f"map-{name}", joined(mapped(Depthwise.sample(), Inverted.sample()), join)
        yield f"text-{name}", joined(architecture(Softmax.sample(), stem=EmbedStem(), input=TEXT), join)
        for setting, other in settings(join):
            yield f"softmax-{name}-{setting}", joined(architecture(Softmax.sample(), stem), other)


def with_texts() -> Iterator[tuple[str, Architecture]]:
    """Every mixer, feed-forward, norm and position that leaves out padding, and the ways to pool, on token ids."""
    fields: dict[str, Any] = {"stem": EmbedStem(), "input": TEXT}
    layout = EmbedStem().layout(TEXT)
    for kind in [kind for kind in MIXERS if kind.lacks(layout) is None]:
        yield f"text-{kind_of(kind)}", architecture(kind.sample(), **fields)
        for setting, other in settings(kind.sample()) if not kind.supports.grid else ():
            yield f"text-{kind_of(kind)}-{setting}", architecture(other, **fields)
    for ffn in [ffn for ffn in FFNS if ffn.lacks(layout) is None]:
        yield f"text-{kind_of(ffn)}", architecture(None, ffn=ffn.sample(), **fields)
    for position in [position for position in POSITIONS if position.lacks(layout) is None]:
        yield f"text-{kind_of(position)}", architecture(Softmax.sample(), position=position.sample(), **fields)
    yield "text-cls", architecture(Softmax.sample(), pool="cls", **fields)
    yield "text-cls-linear-post", architecture(Linear.sample(), pool="cls", norm="post", position=Sinusoid(), **fields)
    yield "text-rms-parallel", normed(architecture(Cosformer.sample(), norm="parallel", **fields), RmsNorm())
    yield "text-types", architecture(Softmax.sample(), stem=EmbedStem(types=2), input=TEXT)
    for unit in get_args(Hidden.model_fields["activation"].annotation):
        hidden = {"pool": "first", "hidden": Hidden(width=5, activation=unit)}
        yield f"text-hidden-{unit}", answering(architecture(Softmax.sample(), norm="post", **fields), **hidden)
    yield "text-pooled-norm", answering(architecture(Performer.sample(), prefix=1, **fields), normed="pooled")


CATALOGUE = dict(catalogue())


def decoders() -> Iterator[tuple[str, Architecture]]:
    """Networks that foresee tokens: every mixer, position, feed-forward, wiring and join that can look back only, with a tied
    and an untied head."""
    layout = EmbedStem().layout(TEXT)._replace(causal=True)
    untied = Language.sample()
    for kind in [kind for kind in MIXERS if kind.lacks(layout) is None]:
        yield kind_of(kind), _foreseeing(kind.sample())
        for setting, other in settings(kind.sample()):
            yield f"{kind_of(kind)}-{setting}", _foreseeing(other, head=untied)
    for position in [position for position in POSITIONS if position.lacks(layout) is None]:
        yield f"softmax-{kind_of(position)}", _foreseeing(Softmax.sample(), position=position.sample())
    yield "none", _foreseeing(None)
    ffns = [kind for kind in FFNS if kind.lacks(layout) is None]
    for i, ffn in enumerate(ffns):
        wiring, join = WIRINGS[i % len(WIRINGS)], (*JOINS, None)[i % (len(JOINS) + 1)]
        a = wired(_foreseeing(Softmax.sample(), ffn.sample()), kind_of(wiring))
        yield f"{kind_of(ffn)}-{kind_of(wiring)}", a if join is None else joined(a, join.sample())


def _foreseeing(mixer: Operator | None, ffn: Operator | None = None, **fields: Any) -> Architecture:
    block = Block.model_validate({"mixer": mixer, "ffn": ffn or Glu.sample()})
    given = {"head": Language(), "norm": RmsNorm(), "last": RmsNorm(), "position": Nowhere(), **fields}
    return Architecture(
        input=TEXT, stem=EmbedStem(), stages=(Stage(embed=8, blocks=(block, Block(), block)),), causal=True, **given
    )


DECODERS = dict(decoders())


class Placed(NamedTuple):
    """All that an operator is made of: its record, the width of its stream, and how its tokens lie."""

    record: Operator
    embed: int
    layout: Layout


def placed() -> dict[str, Placed]:
    """Every operator of the catalogue once, by the first architecture that has it."""
    found: dict[str, tuple[str, Placed]] = {}
    for name, a in CATALOGUE.items():
        for stage, layout in zip(a.stages, a.layouts(), strict=True):
            for record in [part for block in stage.blocks for part in (block.mixer, block.ffn) if part is not None]:
                one = Placed(record, stage.embed, layout)
                found.setdefault(repr(one), (f"{name}-{kind_of(type(record))}-{len(found)}", one))
    return dict(found.values())


OPERATORS = placed()
