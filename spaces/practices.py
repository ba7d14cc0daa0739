"""Best practices of the spaces, which the sampler `generate` keeps to unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from wb.core.records import dims
from wb.core.space import Choices
from wb.spaces.operators import NONE, OFFERED

Practice = Callable[[Choices], bool]  # of choices that name every gene, also those with one option


def _blocks(full: Choices) -> range:
    return range(int(full["depth"]))


def no_block_is_off(full: Choices) -> bool:
    """Whether every block does something; the depth says how many there are."""
    return all(full[f"b{i}.mixer"] != NONE or full[f"b{i}.mlp"] for i in _blocks(full))


def tokens_are_mixed(full: Choices) -> bool:
    """Whether some block lets tokens see each other."""
    return any(full[f"b{i}.mixer"] != NONE for i in _blocks(full))


def heads_fit(full: Choices) -> bool:
    """Whether the heads of attention together have no more channels than the stream that they write to."""
    embed = int(full["embed"])
    return all(
        int(full[f"b{i}.{outer}"]) * int(full[f"b{i}.{name}"]) <= embed
        for i in _blocks(full)
        for name, outer in _within(str(full[f"b{i}.mixer"])).items()
        if f"b{i}.{outer}" in full and f"b{i}.{name}" in full
    )


@cache
def _within(mixer: str) -> dict[str, str]:
    """Width of a mixer -> the width that it lies within: the channels of a head lie within the heads."""
    known = dims(OFFERED[mixer]) if mixer in OFFERED else {}
    return {name: dim.within for name, dim in known.items() if dim.within is not None}


def widths_rise(full: Choices) -> bool:
    """Whether no stage is narrower than the one before it."""
    widths = [int(full[f"s{i}.embed"]) for i in _stages(full)]
    return widths == sorted(widths)


def first_is_not_deepest(full: Choices) -> bool:
    """Whether some later stage has as many blocks as the first, where places are most and blocks dearest."""
    depths = [int(full[f"s{i}.depth"]) for i in _stages(full)]
    return len(depths) == 1 or depths[0] <= max(depths[1:])


def _stages(full: Choices) -> range:
    return range(sum(name.endswith(".depth") for name in full))


def asked_of(practices: Mapping[str, Practice], fixed: Choices) -> dict[str, Practice]:
    """The practices as they are asked of choices without the `fixed` ones."""

    def whole(keeps: Practice) -> Practice:
        return lambda choices: keeps({**fixed, **choices})

    return {name: whole(keeps) for name, keeps in practices.items()}


HYBRID: Mapping[str, Practice] = {
    "widths do not fall from stage to stage": widths_rise,
    "the first stage is not the deepest": first_is_not_deepest,
}
VIT: Mapping[str, Practice] = {
    "every block does something": no_block_is_off,
    "some block mixes tokens": tokens_are_mixed,
    "heads are together no wider than the embedding": heads_fit,
}
