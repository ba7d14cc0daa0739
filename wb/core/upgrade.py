"""Reading what older versions wrote: the JSON of an architecture in format 1 becomes that of format 2.

Format 1 had one kind of input, head, norm and position, which were fields of the architecture: `classes`, `labels`, `pool` and
`head` (a precision), `norm` (its place) and `norm_eps`; a stage's `merge` was a precision. In format 2 each is a record with a
`kind`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

VERSION = 2
_WHOLE = "fp32"  # precisions that are left out of the JSON
_ONLY_1 = ("classes", "labels", "pool", "norm_eps")  # fields that format 2 has elsewhere
_ONLY_2 = ("position", "prefix", "first", "last")


def upgraded(content: Any) -> Any:
    """`content` in the present format. What is in it already, and what is no architecture of format 1, comes back as it is.

    Fields that hold nonsense are carried over, so that validation names them; nothing of `content` is changed in place.

    Raises:
        ValueError: fields of both formats, one of which would be lost.
    """
    if not isinstance(content, Mapping) or "version" in content or _has_records(content):
        return content
    old = [name for name in _ONLY_1 if name in content]
    if not old:
        return content
    _check_only_1(content, old)
    rest = dict(content)
    pool, norm = rest.pop("pool", "mean"), rest.pop("norm", "pre")
    layer = {"kind": "layer", "eps": rest.pop("norm_eps", 1e-6)}
    head = {"kind": "classify", "labels": rest.pop("labels", ()), "pool": "first" if pool == "cls" else pool}
    if "classes" in rest:
        head["classes"] = rest.pop("classes")
    return rest | {
        "version": VERSION,
        "input": _with_kind(rest.get("input"), "image"),
        "stages": _stages(rest.get("stages"), norm),
        "head": _kept(head, rest.get("head", _WHOLE)),
        "norm": layer,
        "last": None if norm == "post" else layer,
        "position": {"kind": "learned"},
        "prefix": 1 if pool == "cls" else 0,
    }


def _check_only_1(content: Mapping[str, Any], old: Sequence[str]) -> None:
    """Raises `ValueError` where a field of format 2 stands beside the fields `old` of format 1."""
    new = [name for name in _ONLY_2 if name in content]
    stages = content.get("stages")
    listed = stages if isinstance(stages, list | tuple) else ()
    new += [f"stages.{i}.wiring" for i, stage in enumerate(listed) if isinstance(stage, Mapping) and "wiring" in stage]
    if new:
        raise ValueError(
            f"{', '.join(new)} {'is' if len(new) == 1 else 'are'} of format 2, and {', '.join(old)} of format 1; say all of it "
            f"in format {VERSION}, with version={VERSION}"
        )


def _has_records(content: Mapping[str, Any]) -> bool:
    """Whether this is no JSON, but what a caller who has records of the present format says."""
    stages = content.get("stages")
    listed = stages if isinstance(stages, list | tuple) else ()
    return any(isinstance(part, BaseModel) for part in (*content.values(), *listed))


def _stages(stages: Any, norm: Any) -> Any:
    if not isinstance(stages, list | tuple):
        return stages
    return [_stage(stage, i, norm) for i, stage in enumerate(stages)]


def _stage(stage: Any, number: int, norm: Any) -> Any:
    """A stage with its wiring, and with its merge as a record; the first has one only where a file says so, which is an error."""
    if not isinstance(stage, Mapping):
        return stage
    rest = dict(stage)
    precision = rest.pop("merge", _WHOLE)
    if number > 0 or precision != _WHOLE:
        rest["merge"] = _kept({"kind": "conv"}, precision)
    return rest | {"wiring": {"kind": norm}}


def _kept(part: dict[str, Any], precision: Any) -> dict[str, Any]:
    """A part's record with its precision, which the JSON leaves out where it is fp32."""
    return part if precision == _WHOLE else part | {"precision": precision}


def _with_kind(part: Any, kind: str) -> Any:
    return {"kind": kind, **part} if isinstance(part, Mapping) else part
