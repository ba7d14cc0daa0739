"""Which mixers, feed-forwards and stems a space offers, and the genes of each: all from what records say of their widths."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar, get_args

from wb.core.layout import Layout
from wb.core.records import (
    FFNS,
    MERGES,
    MIXERS,
    NORMS,
    POSITIONS,
    STEMS,
    WIRINGS,
    Ffn,
    Merge,
    Mixer,
    Norm,
    Operator,
    Part,
    Position,
    Stem,
    Wiring,
    dims,
    groups,
    kind_of,
)
from wb.core.records.base import kernels, repeats, tiles
from wb.core.space import Choices, Option

LEAST = 4  # tokens a side of a square that attention is kept within
AnyPart = TypeVar("AnyPart", bound=Part)
NONE = "none"  # the option of a block without a mixer
TAUGHT: Mapping[str, type[Mixer]] = {kind_of(mixer): mixer for mixer in reversed(MIXERS) if not mixer.untaught}
OFFERED: Mapping[str, type[Mixer]] = {
    name: mixer for name, mixer in TAUGHT.items() if "tokens" in mixer.supports.planes and mixer.unexported is None
}
MAP_MIXERS: Mapping[str, type[Mixer]] = {
    name: mixer for name, mixer in TAUGHT.items() if "map" in mixer.supports.planes
}
FFN_KINDS: Mapping[str, type[Ffn]] = {kind_of(ffn): ffn for ffn in reversed(FFNS) if "tokens" in ffn.supports.planes}
MAP_FFNS: Mapping[str, type[Ffn]] = {kind_of(ffn): ffn for ffn in reversed(FFNS) if "map" in ffn.supports.planes}
MERGE_KINDS: Mapping[str, type[Merge]] = {kind_of(merge): merge for merge in reversed(MERGES) if merge.offered}
STEM_KINDS: Mapping[str, type[Stem]] = {kind_of(stem): stem for stem in STEMS}
# What a mixer may have a gene for: its widths, and how often it uses the same weights.
WIDTHS: tuple[str, ...] = tuple(
    dict.fromkeys(width for mixer in OFFERED.values() for width in (*dims(mixer), *repeats(mixer)))
)
NORM_KINDS: Mapping[str, type[Norm]] = {kind_of(norm): norm for norm in NORMS}
WIRING_KINDS: Mapping[str, type[Wiring]] = {kind_of(wiring): wiring for wiring in WIRINGS}
POSITION_KINDS: Mapping[str, type[Position]] = {kind_of(position): position for position in POSITIONS}
# What all networks of a space have in common: option -> the kinds it may name.
FIXED: Mapping[str, Mapping[str, type[Part]]] = {"norm": NORM_KINDS, "wiring": WIRING_KINDS, "position": POSITION_KINDS}


def from_cheap_to_dear(kinds: Collection[str], order: Collection[str]) -> tuple[str, ...]:
    """`kinds` sorted by `order`, from cheap to expensive; the first is part of the smallest network.

    Raises:
        ValueError: a kind that is not in `order`, or one that is given twice.
    """
    unknown = [kind for kind in kinds if kind not in order]
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))} is not known; expected some of {', '.join(order)}")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{kinds} names one twice")
    return tuple(kind for kind in order if kind in kinds)


def mixer_widths(kind: str, options: Collection[str]) -> list[str]:
    """The widths of a mixer that have genes: those that are in `options`."""
    return [name for name in _sized(OFFERED[kind]) if name in options] if kind in OFFERED else []


def has_weights(kind: str) -> bool:
    """Whether a mixer has linear maps, so that it has a precision."""
    return kind in OFFERED and bool(groups(OFFERED[kind]))


def is_width(name: str) -> bool:
    """Whether some mixer that is offered has such a width."""
    return name in WIDTHS


def mixer_of(kind: str, sizes: Choices, embed: int) -> Mixer | None:
    """The mixer of that kind; a width not in `sizes` is the record's default, or the width of the stream."""
    if kind == NONE:
        return None
    record = OFFERED[kind]
    required = [name for name in dims(record) if record.model_fields[name].is_required()]
    widths = dict.fromkeys(required, embed) | {name: int(sizes[name]) for name in _sized(record) if name in sizes}
    return record.model_validate(widths)


def _sized(mixer: type[Mixer]) -> tuple[str, ...]:
    return *dims(mixer), *repeats(mixer)


def has_middle(ffn: str) -> bool:
    """Whether a feed-forward may have a depthwise convolution in its middle: then its kernel may also be 0."""
    record = MAP_FFNS[ffn]
    return any(0 in get_args(record.model_fields[side].annotation) for side in kernels(record))


def has_gates(ffn: str) -> bool:
    """Whether the hidden channels of a feed-forward may be gated by squeeze and excitation."""
    return "se" in MAP_FFNS[ffn].model_fields


def squeezed(ffn: Ffn) -> int:
    """The hidden units of its squeeze and excitation; 0 without."""
    gates = getattr(ffn, "se", None)
    return int(gates.width) if gates is not None else 0


def ffn_of(kind: str, ratio: float, embed: int) -> Ffn:
    """The feed-forward of that kind, every width of which that has no default is what `ratio` gives."""
    record = FFN_KINDS[kind]
    width = width_for(record, ratio, embed)
    return record.model_validate({name: width for name in dims(record) if record.model_fields[name].is_required()})


def width_of(operator: Operator) -> int:
    """How wide a feed-forward is: its first width."""
    return int(getattr(operator, next(iter(dims(type(operator))))))


def width_for(ffn: Ffn | type[Ffn], ratio: float, embed: int) -> int:
    """How wide a feed-forward of that kind is beside a stream of width `embed`: its share of `ratio` times that."""
    return max(1, round(ffn.share * ratio * embed))


def ratio_of(ffn: Ffn, embed: int) -> float:
    """The ratio that gives a feed-forward its width beside a stream of width `embed`."""
    return width_of(ffn) / (ffn.share * embed)


def sizes_of(mixer: Mixer, options: Collection[str]) -> dict[str, Option]:
    """The sizes of a mixer's widths that have genes."""
    return {name: getattr(mixer, name) for name in _sized(type(mixer)) if name in options}


def stem_genes(kind: str) -> dict[str, str]:
    """The genes of a stem's widths: `stem_width` -> `width`."""
    return {f"stem_{name}": name for name in dims(STEM_KINDS[kind])}


def squared(part: AnyPart, layout: Layout, *, even: bool = False) -> AnyPart:
    """The part with squares that divide the layout: of the side that it has, else of the largest smaller side.

    A side below `LEAST` is none: the whole picture is one square then. `even`: no odd sides, which cannot be halved.
    """
    found = {}
    for name in tiles(type(part)):
        own = int(getattr(part, name))
        sides = (own, *range(own - 1, LEAST - 1, -1), min(layout.shape))
        fitting = [side for side in sides if layout.tiled(side) and not (even and layout.tile(side) % 2)]
        found[name] = fitting[0] if fitting else own
    return part.model_copy(update=found)
