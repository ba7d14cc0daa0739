"""What of an architecture is lost on the way to a format and back, in words."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from wb.core.architecture import Architecture, Block
from wb.core.records import Attention, ImageInput, Input, Part, TextInput
from wb.core.records.attention import Rotary, Scaled

P = TypeVar("P", bound=Part)


def difference(a: Architecture, again: Architecture) -> str | None:
    """What of `a` is lost on the way there and back, but for the mean and deviation of images, which other files say."""
    bare = again.model_copy(update={"input": a.input}) if _alike(a.input, again.input) else again
    a, bare = _plain(a), _plain(bare)
    given, found = a.model_dump(mode="json"), bare.model_dump(mode="json")
    if given == found:
        return None
    for key in given:
        if given[key] != found.get(key):
            return _block_difference(a, bare) if key == "stages" else _part_difference(key, a, bare)
    return "the network"


def _alike(given: Input, again: Input) -> bool:
    """Whether inputs have the same sizes; the tokens that counts are of are said nowhere, and mirrored images cannot be."""
    if isinstance(given, ImageInput) and isinstance(again, ImageInput):
        sizes = ((one.channels, one.height, one.width) for one in (given, again))
        return not given.mirrored and len(set(sizes)) == 1
    if isinstance(given, TextInput) and isinstance(again, TextInput):
        return (given.vocabulary, given.length) == (again.vocabulary, again.length)
    return False


def uneven(a: Architecture) -> str | None:
    """Widths of attention that no library's layout has, in words."""
    for name, _, block in a.blocks():
        mixer = block.mixer
        channels = 0 if not isinstance(mixer, Attention) else 2 * mixer.qk if isinstance(mixer, Rotary) else mixer.qk
        if isinstance(mixer, Attention) and channels != mixer.v:
            return f"block {name} has heads of {channels} query/key and {mixer.v} value channels"
    return None


def _plain(a: Architecture) -> Architecture:
    """The same network with defaults where it says the same as they do: scales of scores, first values of layer scales."""

    def unscaled(name: str, part: P) -> P:
        plain = part.model_copy(update={"scale": None}) if isinstance(part, Scaled) else part
        return plain if isinstance(part, Scaled) and plain.factor == part.factor else part

    def joined(name: str, block: Block) -> Block:
        return block if block.join is None else block.model_copy(update={"join": block.join.structure()})

    return a.with_parts(unscaled).with_blocks(joined)


def _part_difference(key: str, a: Architecture, again: Architecture) -> str:
    """The first thing in which a part outside the blocks differs, as the norms' eps."""
    mine, theirs = getattr(a, key), getattr(again, key)
    return (
        f"{key}{_first(mine, theirs)}"
        if isinstance(mine, BaseModel) and type(mine) is type(theirs)
        else f"{key} as it is"
    )


def _block_difference(a: Architecture, again: Architecture) -> str:
    for (name, _, mine), (_, _, theirs) in zip(a.blocks(), again.blocks(), strict=False):
        if mine != theirs:
            return f"block {name}{_first(mine, theirs)}"
    return "the number of its blocks, or how they are wired"


def _first(mine: BaseModel, theirs: BaseModel, place: str = "") -> str:
    """The first field in which two parts differ, in words."""
    fields = [key for key in type(mine).model_fields if getattr(mine, key) != getattr(theirs, key, None)]
    ours, other = getattr(mine, fields[0]), getattr(theirs, fields[0], None)
    if isinstance(ours, BaseModel) and isinstance(other, type(ours)):
        return _first(ours, other, f"{place}{fields[0]}.")
    return f", whose {place}{fields[0]} is {_said(ours)} where it would be {_said(other)}"


def _said(value: object) -> object:
    """A value as it is told; a part by its name."""
    return value.title if isinstance(value, Part) else value
