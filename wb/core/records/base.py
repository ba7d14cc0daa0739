"""What all records share: frozen data, what is known of a width (`Dim`), and parts of a network (`Part`)."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from wb.core.layout import Layout, Supports

Width = Annotated[int, Field(ge=1, le=65536)]

# What the weights of a group of linear maps are kept in, from small to large. "int8": 8 bits per output channel, products in
# integers, inputs quantized as they come. "int4": 4 bits in blocks, products in floating point. "w1" and "w2": binary and
# ternary weights with one scale per output channel, which the network is trained with (`wb.models.layers.lowbit`).
Precision = Literal["w1", "w2", "int4", "int8", "fp32"]
ConvPrecision = Literal["int8", "fp32"]  # no runtime here has kernels for less
# `wb.models.layers.tensors.ACTIVATIONS` computes them.
Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "silu", "hardswish"]


class Dim(NamedTuple):
    """What is known of a width besides its size; it stands in the metadata of the record's field."""

    title: str  # in every table and figure
    within: str | None = None  # the width whose every entry may have other entries of this one: channels within "heads"
    ordered: bool = False  # entries build on those before them, so that only the leading ones make sense
    fitted: bool = False  # entries are coefficients of a basis: another size is another basis, fitted to this one
    scored: bool = True  # a gradient tells its units apart
    aligned: bool = True  # pruning makes it a multiple of `--align`
    late: int = 0  # the round in which it is resized: heads and hidden units 0, channels 1, streams 2
    squared: bool = False  # a cost may have its square: a convolution leads from it to itself


class Kernel(NamedTuple):
    """Marks the side of a convolution's kernel: in shared weights a smaller kernel is the centre of a larger one."""


class Tile(NamedTuple):
    """Marks the side of the squares that the picture of tokens is cut into: its sides are multiples of it, or not larger."""


class Repeats(NamedTuple):
    """Marks how often weights are used one time after the other: another number needs no others."""


class Group(NamedTuple):
    """Marks a field that says what a group of linear maps is kept in. The group has the part's name and this ending."""

    ending: str = ""


class Preparation(NamedTuple):
    """Work that building a part takes, in multiplications, once for all parts with the same `key`."""

    key: Hashable
    work: int
    width: str  # the field that it grows with


def is_fp32(precision: str) -> bool:
    """Whether a precision is left out of the JSON: networks keep the keys they had before there was a choice."""
    return precision == "fp32"


def is_false(value: object) -> bool:
    """Whether a switch is left out of the JSON, as it was before there was one."""
    return value is False


def is_none(value: object) -> bool:
    """Whether a record is left out of the JSON: networks keep the keys they had before there was a choice."""
    return value is None


def is_zero(number: int) -> bool:
    """Whether a number is left out of the JSON: networks keep the keys they had before there was one."""
    return number == 0


def is_true(switch: bool) -> bool:
    """Whether a switch is left out of the JSON, as it was before there was one."""
    return switch


Biases = Annotated[bool, Field(exclude_if=is_true)]  # whether every linear map has a bias
ConvKept = Annotated[ConvPrecision, Field(exclude_if=is_fp32), Group()]
HeadKept = Annotated[Precision, Field(exclude_if=is_fp32), Group()]


class Frozen(BaseModel):
    """Frozen, compared by value, refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(Frozen):
    """A record with a module: a stem, a merge, a mixer, a feed-forward, a head. Its class says what is known of all such."""

    module: ClassVar[str]  # "package.file:Class" of the torch module
    supports: ClassVar[Supports] = Supports()
    unexported: ClassVar[str | None] = None  # why no graph computes it, in words; spaces do not offer such parts
    example: ClassVar[Mapping[str, Any]] = {}  # the fields of a small one with every width different
    title: ClassVar[str]  # "softmax attention"
    source: ClassVar[str] = ""  # the paper, in one line

    @classmethod
    def sample(cls) -> Self:
        """The record of `example`, on which laws and benchmarks run."""
        return cls.model_validate(cls.example)

    @property
    def factor(self) -> float:
        """The number by which the part multiplies a product of two of its weights, which these could take over."""
        return 1.0

    def settled(self, changed: Collection[str]) -> Self:
        """The record with every default written out that would be another one once the widths `changed` are."""
        return self

    def padded(self, changed: Collection[str]) -> Self:
        """The record with every default written out that has to stay as it is once units that are zero join the widths."""
        return self.settled(changed)

    def structure(self) -> Self:
        """The record without numbers that weights could take over: what timings, matches and seeds compare."""
        return self

    def unit(self) -> Self:
        """The record once its weights have taken over `factor`."""
        return self

    def preparation(self, tokens: int) -> Preparation | None:
        """What building the part for so many tokens takes, where that is not next to nothing."""
        return None

    @classmethod
    def lacks(cls, given: Layout) -> str | None:
        """What all of this kind lack for tokens that lie like that, in words; None where they lack nothing."""
        return given.refused(cls.supports)

    def refuses(self, layout: Layout) -> str | None:
        """What it lacks for tokens that lie like that, in words; None where it lacks nothing."""
        lack = self.lacks(layout)
        sides = [] if lack else [getattr(self, name) for name in tiles(type(self))]
        lacking = next((side for side in sides if not layout.tiled(side)), None)
        if lacking is None:
            return lack
        shape = "x".join(map(str, layout.shape))
        return f"cuts the tokens into squares of {lacking}x{lacking}, which {shape} are no multiple of"


class Operator(Part):
    """A mixer or a feed-forward. One that is `normed` has its own norms behind its linear maps, and none in front of it."""

    # Of the hidden width that a space's ratio gives: less where a unit has more parameters than one of a perceptron.
    share: ClassVar[float] = 1.0
    normed: ClassVar[bool] = False
    untaught: ClassVar[bool] = False  # made from a trained network by a pass; training alone cannot find its constants

    def sharpened(self, by: float) -> Self:
        """The operator with norms on queries and keys, and scores `by` times as large; itself where it has no such norms."""
        del by
        return self

    def in_block(self, number: int) -> Self:
        """The operator of block `number` of a stage whose blocks are alike: itself, unless the operator alternates."""
        del number
        return self


class Weighted(Operator):
    """An operator with weights: what those that read the residual stream are kept in, and those that write to it."""

    reads: Annotated[Precision, Field(exclude_if=is_fp32), Group(".in")] = "fp32"
    writes: Annotated[Precision, Field(exclude_if=is_fp32), Group(".out")] = "fp32"

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What the JSON leaves out is left out here too."""
        left_out = {n: field.exclude_if for n, field in type(self).model_fields.items() if field.exclude_if is not None}
        return [(n, value) for n, value in super().__repr_args__() if n not in left_out or not left_out[n](value)]


class Filtered(Operator):
    """An operator of convolutions with batch norms, on a map: what those are kept in that do not write to the stream."""

    normed = True
    supports: ClassVar[Supports] = Supports(line=False, prefix=False, planes=("map",))
    reads: Annotated[ConvPrecision, Field(exclude_if=is_fp32), Group(".in")] = "fp32"


class Convolved(Filtered):
    """One whose last convolution mixes channels, and what that one is kept in."""

    writes: Annotated[ConvPrecision, Field(exclude_if=is_fp32), Group(".out")] = "fp32"


@cache
def dims(record: type[BaseModel]) -> Mapping[str, Dim]:
    """The widths of a record by the names of their fields, in the order of the fields."""
    return {
        name: mark for name, field in record.model_fields.items() for mark in field.metadata if isinstance(mark, Dim)
    }


@cache
def kernels(record: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a record that are sides of a kernel."""
    return _marked(record, Kernel)


@cache
def tiles(record: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a record that are sides of squares which the tokens are cut into."""
    return _marked(record, Tile)


@cache
def repeats(record: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a record that say how often the same weights are used."""
    return _marked(record, Repeats)


def _marked(record: type[BaseModel], mark: type) -> tuple[str, ...]:
    """The fields of a record with such a mark in their metadata."""
    return tuple(
        name for name, field in record.model_fields.items() if any(isinstance(one, mark) for one in field.metadata)
    )


@cache
def groups(part: type[Part]) -> Mapping[str, tuple[str, tuple[Precision, ...]]]:
    """The groups of linear maps of a part: ending -> the field with its precision, and the precisions it may have."""
    return {
        mark.ending: (name, get_args(field.annotation))
        for name, field in part.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Group)
    }


def members(union: object) -> tuple[Any, ...]:
    """The records of a union that its `kind` tells apart, in order; of a record alone, that record."""
    return get_args(get_args(union)[0]) if get_args(union) else (union,)


def kind_of(part: type[Part]) -> str:
    """The name of a kind of part, as in its JSON: `softmax`."""
    return str(part.model_fields["kind"].default)
