"""The options of space `vit`: what a search may choose, and what is the same for all of its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from wb.core.architecture import explain
from wb.core.errors import BadData, BadOption
from wb.core.nearest import meant
from wb.core.records import ImageInput
from wb.spaces.columnar.precision import (
    SEARCHED,
    Searched,
)
from wb.spaces.operators import (
    FFN_KINDS,
    FIXED,
    NONE,
    OFFERED,
    STEM_KINDS,
    WIDTHS,
    from_cheap_to_dear,
    is_width,
)

PATCHES = (2, 4, 8, 16, 32)
MOST = 2**20  # largest width of anything
DEEPEST = 256  # largest number of blocks
Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=MOST)], ...], Field(min_length=1)]
Depths = Annotated[tuple[Annotated[int, Field(ge=0, le=DEEPEST)], ...], Field(min_length=1)]


class VitOptions(BaseModel):
    """The options of the space; every field lists the options of one kind of choice, from small to large.

    `pool`, `norm`, `wiring`, `position`, `patch` and `grid` are those of all networks.
    `mixer` and everything after it is chosen block by block. `mlp` is the feed-forward's width over the embedding's, 0 for
    none, times the `share` of its kind: units of a scan and tables have more parameters than those of a perceptron. A block with
    mixer `none` and mlp 0 is switched off. Any other width of a mixer may be given options under its name, and how often it
    uses the same weights (`loops`); one that has none, as an LMU's hidden layer, is what its record says or as wide as the
    embedding. `patch` 0 takes the smallest patch that leaves at most `grid` x `grid` tokens. `precision` is
    chosen for the stem, the head and, in every block, for what goes into and out of the mixer and the feed-forward.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    if not TYPE_CHECKING:  # pydantic's plugin takes it for a field
        __pydantic_extra__: dict[str, Sizes]

    embed: Sizes
    depth: Depths
    stem: Annotated[tuple[str, ...], Field(min_length=1)]
    stem_width: Sizes
    pool: Literal["mean", "cls"]
    norm: str = "layer"
    wiring: str = "pre"
    position: str = "learned"
    patch: Annotated[int, Field(ge=0, le=MOST)] = 0
    grid: Annotated[int, Field(ge=1, le=MOST)] = 8
    mixer: Annotated[tuple[str, ...], Field(min_length=1)]
    heads: Sizes
    qk: Sizes
    v: Sizes
    memory: Sizes = (16,)
    ffn: Annotated[tuple[str, ...], Field(min_length=1)] = (next(iter(FFN_KINDS)),)
    mlp: Annotated[tuple[Annotated[float, Field(ge=0, le=16)], ...], Field(min_length=1)]
    precision: Annotated[tuple[Searched, ...], Field(min_length=1)] = ("fp32",)

    @field_validator(*FIXED)
    @classmethod
    def _known(cls, kind: str, field: ValidationInfo) -> str:
        (found,) = from_cheap_to_dear((kind,), FIXED[str(field.field_name)])
        return found

    @field_validator("*")
    @classmethod
    def _in_order(cls, values: object, field: ValidationInfo) -> object:
        """Names in the order in which they are known, numbers from small to large."""
        orders = {
            "mixer": (NONE, *OFFERED),
            "ffn": tuple(FFN_KINDS),
            "stem": tuple(STEM_KINDS),
            "precision": SEARCHED,
        }
        order = orders.get(str(field.field_name))
        if not isinstance(values, tuple):
            return values
        return _ascending(values) if order is None else from_cheap_to_dear(values, order)

    @model_validator(mode="after")
    def _only_widths(self) -> Self:
        """What is not a field has to be a width."""
        for name, sizes in (self.model_extra or {}).items():
            if not is_width(name):
                raise ValueError(f"no mixer has a width {name!r}")
            _ascending(sizes)
        return self

    @property
    def widths(self) -> tuple[str, ...]:
        """The widths of mixers that have options."""
        return tuple(name for name, _ in self if is_width(name))

    @property
    def by_block(self) -> tuple[str, ...]:
        """What is chosen block by block: the mixer, its widths, the feed-forward and its width."""
        return ("mixer", *self.widths, "ffn", "mlp")


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"{values} has to go from small to large, without repeats")
    return values


def options_with(base: VitOptions, changes: Mapping[str, object]) -> VitOptions:
    """`base` with some fields replaced.

    Raises:
        BadOption: an unknown field or a value that does not fit it.
    """
    known = dict.fromkeys((*VitOptions.model_fields, *WIDTHS))
    fields = ", ".join(known)
    for name in changes:
        if name not in known:
            raise BadOption(f"space 'vit' has no field {name!r}{meant(name, known)}; its fields are {fields}")
    try:
        return VitOptions.model_validate(base.model_dump() | dict(changes))
    except ValidationError as error:
        raise BadOption(
            f"space 'vit' cannot take {dict(changes)}: {explain(error)}; its fields are {fields}"
        ) from error


def smallest_patch(image: ImageInput, grid: int) -> int:
    """The smallest of 2, 4, 8, 16, 32 that divides the image and leaves at most `grid` tokens a side.

    If none leaves so few, the largest that divides the image.

    Raises:
        BadData: none divides the image.
    """
    fitting = [p for p in PATCHES if image.height % p == 0 and image.width % p == 0]
    small = [p for p in fitting if max(image.height, image.width) // p <= grid]
    if small:
        return small[0]
    if fitting:
        return fitting[-1]
    raise BadData(
        f"images of {image.height}x{image.width} cannot be cut into patches of 2, 4, 8, 16 or 32; resize them with --image-size"
    )
