"""Which mixers and stems a space offers, and the genes of each: all from what their records say of their widths."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wb.core.records import MIXERS, NORMS, STEMS, WIRINGS, Mixer, Norm, Stem, Weighted, Wiring, dims, kind_of
from wb.core.space import Choices, Option

NONE = "none"  # the option of a block without a mixer
OFFERED: Mapping[str, type[Mixer]] = {kind_of(mixer): mixer for mixer in reversed(MIXERS) if not mixer.untaught}
STEM_KINDS: Mapping[str, type[Stem]] = {kind_of(stem): stem for stem in STEMS}
NORM_KINDS: Mapping[str, type[Norm]] = {kind_of(norm): norm for norm in NORMS}
WIRING_KINDS: Mapping[str, type[Wiring]] = {kind_of(wiring): wiring for wiring in WIRINGS}


def from_cheap_to_dear(kinds: Collection[str], order: Collection[str]) -> tuple[str, ...]:
    """`kinds` in that order, whatever order was given: the first is part of the smallest network.

    Raises:
        ValueError: one that is not in `order`, or comes twice.
    """
    unknown = [kind for kind in kinds if kind not in order]
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))} is not known; expected some of {', '.join(order)}")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{kinds} names one twice")
    return tuple(kind for kind in order if kind in kinds)


def mixer_widths(kind: str, options: Collection[str]) -> list[str]:
    """The widths of a mixer that are chosen, which are those that there are `options` for."""
    return [name for name in dims(OFFERED[kind]) if name in options] if kind in OFFERED else []


def has_weights(kind: str) -> bool:
    """Whether a mixer has linear maps, which are kept in some precision."""
    return kind in OFFERED and issubclass(OFFERED[kind], Weighted)


def mixer_of(kind: str, sizes: Choices, embed: int) -> Mixer | None:
    """The mixer of that kind; a width that is not among `sizes` is the record's default, or as large as the stream."""
    if kind == NONE:
        return None
    record = OFFERED[kind]
    required = [name for name in dims(record) if record.model_fields[name].is_required()]
    widths = dict.fromkeys(required, embed) | {name: int(sizes[name]) for name in dims(record) if name in sizes}
    return record.model_validate(widths)


def sizes_of(mixer: Mixer, options: Collection[str]) -> dict[str, Option]:
    """The widths of a mixer that are chosen, with their sizes."""
    return {name: getattr(mixer, name) for name in dims(type(mixer)) if name in options}


def stem_genes(kind: str) -> dict[str, str]:
    """The genes of a stem's widths: `stem_width` -> `width`."""
    return {f"stem_{name}": name for name in dims(STEM_KINDS[kind])}
