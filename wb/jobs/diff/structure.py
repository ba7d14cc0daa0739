"""The architectures of two models side by side, record by record and field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from wb.core.architecture import Architecture
from wb.jobs.diff.record import Field

_ENDS = ("last", "head")  # behind the stages; all others are in front
_PLACED = ("blocks", "merge", "mixer", "ffn")  # fields that have a place of their own
_LISTED = 12  # entries of a list that are written out

Key = tuple[int, ...]  # sorts places in order of execution


def compare_architectures(a: Architecture, b: Architecture) -> tuple[Field, ...]:
    """Every field of both, in order of execution; a part that one of them lacks, or that is of another kind, as one field."""
    one, other = dict(_places(a)), dict(_places(b))
    found: list[Field] = []
    for place in sorted({*one, *other}):
        found += _fields(place[1], one.get(place), other.get(place))
    return tuple(found)


def _fields(place: str, a: BaseModel | None, b: BaseModel | None) -> Iterator[Field]:
    texts = [None if part is None else _texts(part) for part in (a, b)]
    if texts[0] is None or texts[1] is None or texts[0].get("kind") != texts[1].get("kind"):
        yield Field(place=place, name="", a=_whole(texts[0]), b=_whole(texts[1]))
        return
    for name in dict.fromkeys([*texts[0], *texts[1]]):
        yield Field(place=place, name=name, a=texts[0].get(name), b=texts[1].get(name))


def _places(architecture: Architecture) -> Iterator[tuple[tuple[Key, str], BaseModel]]:
    """Every record by its place: `input`, `stem`, `s0`, `s0.b3`, `s0.b3.mixer`, `head`."""
    apart = ("version", "stages", "prefix", "causal", *_ENDS)  # what is causal has another head
    names = [name for name in type(architecture).model_fields if name not in apart]
    for i, name in enumerate(names):
        part = getattr(architecture, name)
        if part is not None:
            yield ((-1, i), name), part
    yield ((-1, len(names)), "prefix"), _Tokens(tokens=architecture.prefix)
    for i, stage in enumerate(architecture.stages):
        yield ((i, -1), f"s{i}"), stage
        if stage.merge is not None:
            yield ((i, -1, 0), f"s{i}.merge"), stage.merge
        for j, block in enumerate(stage.blocks):
            if block.norm is not None or block.join is not None:
                yield ((i, j, -1), f"s{i}.b{j}"), block
            for k, (kind, part) in enumerate(block.parts()):
                yield ((i, j, k if kind == "mixer" else 1), f"s{i}.b{j}.{kind}"), part
    for i, name in enumerate(_ENDS):
        part = getattr(architecture, name)
        if part is not None:
            yield ((1 << 30, i), name), part


class _Tokens(BaseModel):
    """The tokens in front of those that the stem makes, as a record of their own."""

    tokens: int


def _texts(record: BaseModel) -> dict[str, str]:
    """The fields of a record as text, without the records that have a place of their own."""
    names = (name for name in type(record).model_fields if name not in _PLACED)
    return {name: _text(value) for name in names if (value := getattr(record, name)) is not None}


def _text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            more = f" and {len(value) - _LISTED} more" if len(value) > _LISTED else ""
            return ", ".join(map(_text, value[:_LISTED])) + more or "none"
        case BaseModel():
            return _whole(_texts(value)) or "none"
    return str(value)


def _whole(texts: Mapping[str, str] | None) -> str | None:
    """A record in one line: `softmax, heads 4, qk 8`; None for none."""
    if texts is None:
        return None
    rest = [f"{name} {value}" for name, value in texts.items() if name != "kind"]
    return ", ".join([texts["kind"], *rest] if "kind" in texts else rest) or "plain"
