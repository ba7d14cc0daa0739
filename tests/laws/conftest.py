"""One small architecture for everything that the catalogue of operators and stems knows: a new one is tested by existing.

So is a new setting: a switch of a record, or a choice between words, has an architecture for every other value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tests.networks import assembled, axes_within, joined, normed, wired
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Plane
from wb.core.precision import PRECISIONS, TRAINED, allowed, with_precisions
from wb.core.records import (
    FFNS,
    MERGES,
    MIXERS,
    NORMS,
    POSITIONS,
    STEMS,
    WIRINGS,
    ConvStem,
    Cosformer,
    ImageInput,
    LayerNorm,
    Merge,
    Mlp,
    Norm,
    Nowhere,
    Operator,
    Part,
    PatchStem,
    Pool,
    Precision,
    Scale,
    Softmax,
    Stem,
    Unnormed,
    kernels,
    kind_of,
)
from wb.core.records.ffns import Inverted, Squeeze
from wb.core.records.mixers import Depthwise
from wb.core.records.norms import BatchNorm, RmsNorm
from wb.fusion.forms.canonical import foldable
from wb.models.network import skeleton

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
        input=IMAGE, stem=stem, stages=(first, *rest), labels=("a", "b", "c"), pool=pool, norm=norm, **fields
    )


def settings(record: Operator) -> Iterator[tuple[str, Operator]]:
    """The record with every other value of a switch or of a choice between words, called by that."""
    for name, field in type(record).model_fields.items():
        words = get_args(field.annotation)
        if field.annotation is bool:
            yield f"{name}-{not getattr(record, name)}", record.model_copy(update={name: not getattr(record, name)})
        elif len(words) > 1 and name not in ("reads", "writes") and all(isinstance(word, str) for word in words):
            for word in words:
                if word != getattr(record, name):
                    yield word, record.model_copy(update={name: word})


def catalogue() -> Iterator[tuple[str, Architecture]]:
    """Every mixer behind every stem, post-norm, with a class token and in two stages where it allows that; every feed-forward."""
    for kind in [kind for kind in MIXERS if "tokens" in kind.supports.planes]:
        record = kind.sample()
        name = kind_of(kind)
        for stem in STEMS:
            yield f"{name}-{kind_of(stem)}", architecture(record, stem.sample())
        yield f"{name}-conv4", architecture(record, ConvStem(patch=4, width=5))
        yield f"{name}-stages", architecture(record, PatchStem(patch=2), stages=2)
        for wiring in map(kind_of, WIRINGS[1:]):
            yield f"{name}-{wiring}", architecture(record, PatchStem(patch=2), norm=wiring)
        if kind.supports.prefix:
            yield f"{name}-cls", architecture(record, PatchStem(patch=4), pool="cls")
        for setting, other in settings(record):
            yield f"{name}-{setting}", architecture(other, PatchStem(patch=2))
    for ffn in [ffn for ffn in FFNS if "tokens" in ffn.supports.planes]:
        yield f"{kind_of(ffn)}-alone", architecture(None, PatchStem(patch=2), ffn=ffn.sample())
        for setting, other in settings(ffn.sample()):
            yield f"{kind_of(ffn)}-{setting}", architecture(Softmax.sample(), PatchStem(patch=2), ffn=other)
    yield from with_ends()
    yield from with_positions()
    for norm in [norm for norm in NORMS[1:] if norm is not Unnormed]:
        yield from with_norm(kind_of(norm), norm.sample())
    yield from with_scales()
    yield from with_maps()


def with_ends() -> Iterator[tuple[str, Architecture]]:
    """Prefix tokens, a first norm, norms of blocks of their own, no last norm, and two stages in every wiring."""
    softmax = Softmax.sample()
    yield "softmax-post-cls", architecture(softmax, ConvStem(patch=4, width=5), pool="cls", norm="post")
    yield "softmax-prefix", architecture(softmax, PatchStem(patch=2), prefix=2)
    yield "softmax-prefix-first", architecture(softmax, PatchStem(patch=2), pool="cls", prefix=3)
    yield "softmax-first", architecture(softmax, ConvStem(patch=2, width=5), first=LayerNorm(eps=1e-3))
    own = architecture(softmax, PatchStem(patch=2))
    yield "softmax-own-norm", own.with_blocks(lambda _, block: block.model_copy(update={"norm": LayerNorm(eps=1e-2)}))
    yield "softmax-no-last", architecture(softmax, PatchStem(patch=2), last=None)
    seen_twice = IMAGE.model_copy(update={"mirrored": True})
    yield "softmax-mirrored", architecture(softmax, PatchStem(patch=2)).model_copy(update={"input": seen_twice})
    yield "map-mirrored", mapped(None, Inverted.sample()).model_copy(update={"input": seen_twice})
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
    for ffn in [ffn for ffn in FFNS if "map" in ffn.supports.planes]:
        yield f"map-{kind_of(ffn)}-alone", mapped(None, ffn.sample())
        for setting, other in (*settings(ffn.sample()), *sides(ffn.sample())):
            yield f"map-{kind_of(ffn)}-{setting}", mapped(depthwise, other)
    for stem in STEMS:
        yield f"map-{kind_of(stem)}-stem", mapped(depthwise, inverted, stem=stem.sample())
    for merge in MERGES:
        yield f"map-{kind_of(merge)}-merge", mapped(depthwise, inverted, merge.sample())
        if merge.odd:
            six = IMAGE.model_copy(update={"height": 6, "width": 6})
            yield f"map-{kind_of(merge)}-odd", mapped(depthwise, inverted, merge.sample(), input=six)
    for gate in get_args(Squeeze.model_fields["gate"].annotation):
        yield f"map-inverted-se-{gate}", mapped(None, Inverted(mlp=9, kernel=3, se=Squeeze(width=5, gate=gate)))
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
    """That norm in every wiring, in two stages, in front of what has no weights, and on one stream with LayerNorm."""
    softmax, stem = Softmax.sample(), PatchStem(patch=2)
    for wiring in map(kind_of, WIRINGS):
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


def fits(value: object, plane: Plane) -> bool:
    """Whether a part, or a number of prefix tokens, may be in a stage with that plane."""
    return plane in value.supports.planes if isinstance(value, Part) else plane == "tokens" or not value


CATALOGUE = dict(catalogue())
FEW = 9  # networks that have all parts between them, at least


class Combinations:
    """Few networks, each of many parts of the catalogue at once, for laws that take long: all parts, and most pairs of them.

    Whatever records the catalogue has in a field of architecture, stage or block may come together where validation lets them.
    """

    def __init__(self, known: Mapping[str, Architecture], seed: int = 0) -> None:
        self.random, self.seen = Random(seed), set[tuple[str, ...]]()
        self.networks = list(known.values())
        stages = [stage for a in self.networks for stage in a.stages]
        blocks = [block for stage in stages for block in stage.blocks if not block.off]
        self.values = {
            kind: {name: self._distinct(getattr(one, name) for one in ones) for name in kind.model_fields}
            for kind, ones in ((Architecture, self.networks), (Stage, stages), (Block, blocks))
        }
        del self.values[Architecture]["stages"], self.values[Stage]["blocks"]

    @staticmethod
    def _distinct(values: Iterable[object]) -> list[object]:
        return list({repr(value): value for value in values}.values())

    def _drawn(self, kind: type[Architecture | Stage | Block], planes: Mapping[str, Plane]) -> dict[str, Any]:
        """A value for each field, half of the time one that was not seen before, if there is one.

        Those of fields in `planes` compute on that plane.
        """
        fitting = {
            name: [value for value in values if name not in planes or fits(value, planes[name])]
            for name, values in self.values[kind].items()
        }
        new = {name: [v for v in values if (f"{name} {v!r}",) not in self.seen] for name, values in fitting.items()}
        return {
            name: self.random.choice(new[name] if new[name] and self.random.random() < 0.5 else values)
            for name, values in fitting.items()
        }

    def _stage(self, number: int) -> Stage:
        merges = [merge for merge in self.values[Stage]["merge"] if (merge is None) is (number == 0)]
        fields = {**self._drawn(Stage, {}), "merge": self.random.choice(merges)}
        planes = dict.fromkeys(("mixer", "ffn", "norm"), fields["plane"])
        first, *others = (Block.model_validate(self._drawn(Block, planes)) for _ in range(2 if number == 0 else 1))
        return Stage.model_validate({**fields, "blocks": (first, Block(), *others)})

    def _network(self) -> Architecture:
        while True:
            try:
                stages = tuple(self._stage(number) for number in range(self.random.randint(1, 2)))
                begins, ends = stages[0].plane, stages[-1].plane
                planes = {"position": begins, "prefix": begins, "first": begins, "last": ends}
                found = Architecture.model_validate({**self._drawn(Architecture, planes), "stages": stages})
            except ValidationError:
                continue
            if all(layout.tokens > 1 for layout in found.layouts()):  # one alone is mixed with nothing
                return found

    @staticmethod
    def parts(a: Architecture) -> set[tuple[str, ...]]:
        """Every value of a field, and every two that meet: in a block, or in it and in what is around it."""
        found: set[tuple[str, ...]] = set()
        for _, stage, block in a.blocks():
            fields = [(one, name) for one in (a, stage, block) for name in type(one).model_fields]
            values = [f"{name} {getattr(one, name)!r}" for one, name in fields if name not in ("stages", "blocks")]
            if not block.off:
                found |= {*combinations(values, 1), *combinations(values, 2)}
        return found

    def __iter__(self) -> Iterator[Architecture]:
        """Of twenty networks at random the one with most that none before it had; at last the catalogue's own for the rest."""
        whole = {part for a in self.networks for part in self.parts(a) if len(part) == 1}
        for number in range(2 * FEW):
            if number >= FEW and whole <= self.seen:
                break
            best = max((self._network() for _ in range(20)), key=lambda a: self._worth(self.parts(a) - self.seen))
            self.seen |= self.parts(best)
            yield best
        for a in self.networks:
            if any(len(new) == 1 for new in self.parts(a) - self.seen):
                self.seen |= self.parts(a)
                yield a

    @staticmethod
    def _worth(new: set[tuple[str, ...]]) -> int:
        return sum(100 if len(one) == 1 else 1 for one in new)


COMBINED = {f"combined-{number}": a for number, a in enumerate(Combinations(CATALOGUE))}


@pytest.fixture(params=list(CATALOGUE))
def any_architecture(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue in turn."""
    return CATALOGUE[request.param]


@pytest.fixture(params=list(COMBINED))
def any_combination(request: pytest.FixtureRequest) -> Architecture:
    """Each of few networks that have all parts of the catalogue between them, for what takes longer."""
    return COMBINED[request.param]


@pytest.fixture
def uncombined() -> set[tuple[str, ...]]:
    """What a block, its stage or its network has somewhere in the catalogue and in none of the few networks."""
    known, combined = (set().union(*map(Combinations.parts, networks.values())) for networks in (CATALOGUE, COMBINED))
    return {part for part in known - combined if len(part) == 1}


@pytest.fixture(params=[name for name, a in CATALOGUE.items() if axes_within(a)])
def any_with_heads(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue that has an axis within another."""
    return CATALOGUE[request.param]


@pytest.fixture(params=[n for n, a in CATALOGUE.items() if any(foldable(skeleton(a), i) for i in range(len(a.stages)))])
def any_turnable(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture of the catalogue that has a stream that may be rotated."""
    return CATALOGUE[request.param]


def mixed(a: Architecture, among: Sequence[Precision]) -> Architecture:
    """`a` with every group in one of `among`, drawn at random from those that it may be kept in."""
    draw = Random(a.key)
    return with_precisions(
        a, {group: draw.choice([p for p in options if p in among]) for group, options in allowed(a).items()}
    )


@pytest.fixture
def any_mixture(any_architecture: Architecture) -> Architecture:
    """Each architecture of the catalogue in random precisions."""
    return mixed(any_architecture, PRECISIONS)


@pytest.fixture
def any_rounded(any_architecture: Architecture) -> Architecture:
    """Each architecture of the catalogue, its linear maps binary, ternary or in floating point at random."""
    return mixed(any_architecture, (*TRAINED, "fp32"))


@pytest.fixture(params=[name for name in CATALOGUE if name.endswith(("-patch", "-alone", "-post-cls", "-post-stages"))])
def one_rounded(request: pytest.FixtureRequest) -> Architecture:
    """The same for one architecture of every mixer and of every feed-forward, for what takes longer."""
    return mixed(CATALOGUE[request.param], (*TRAINED, "fp32"))
