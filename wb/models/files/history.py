"""A model's history: the data that it names, and the part of it that may be published with an exported file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import JsonValue

from wb.models.files.header import ORIGIN, TOKENIZER
from wb.models.model import Step

# A data set by its form, or an absolute path: at the beginning, or after a space, a colon or a bracket.
_DATA = re.compile(r"((?:imagefolder|idx|cifar10|npz|hf|csv|jsonl|lm)(?:,[^:\s]*)?:)(.+)", re.DOTALL)
_EMBEDDED, _TABLES = ("digits", "listops", "lm"), ("csv", "jsonl", "lm")
_TOKENIZER = re.compile(r"(,tokenizer=)([^,:]+)")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # a name on the hub is no place here
_PLACE = re.compile(r"(?:(?<=[\s:=('\"])|^)(?:~?/|~[\w.-]+/|[A-Za-z]:[\\/]|\\\\)(?=\S).*", re.DOTALL)


@dataclass(frozen=True)
class Known:
    """The data in a model's history: the arguments of `wb.data.load`, and the fingerprint of the data if it was noted."""

    spec: str
    fingerprint: str | None = None
    image_size: int | None = None
    limit: int | None = None

    @property
    def there(self) -> bool:
        """Whether the data still exist: digits always do, a folder or an archive if it is there; of the hub it is not asked."""
        form, colon, place = self.spec.partition(":")
        if not colon:
            return form.partition(",")[0] in _EMBEDDED
        kind = form.partition(",")[0]
        try:
            if kind in _TABLES:
                return all(Path(one).expanduser().is_file() for one in place.split(","))
            path = Path(place).expanduser()
            found = path.is_file() if kind == "npz" else path.is_dir()
            return bool(place) and (found or (kind == "hf" and not path.is_absolute()))
        except (OSError, RuntimeError, ValueError):  # a path that is too long, of an unknown user, or with a zero byte
            return False


def data_of(history: Iterable[Step]) -> Known | None:
    """The data of the last step that names any."""
    known = None
    for step in history:
        spec = step.arguments.get("data")
        if isinstance(spec, str) and spec:
            size, limit = (_whole(step.arguments.get(name)) for name in ("image_size", "limit"))
            fingerprint = step.arguments.get("fingerprint")
            same = known is not None and known.spec == spec and "fingerprint" not in step.arguments
            if not same:  # a step of an older version, without fingerprint, adds nothing about the same data
                known = Known(spec, fingerprint if isinstance(fingerprint, str) else None, size, limit)
    return known


def tokenizer_of(history: Iterable[Step]) -> str | None:
    """The tokenizer of the last step that names one, as JSON; None for networks that take no texts."""
    found = [step.arguments[TOKENIZER] for step in history if TOKENIZER in step.arguments]
    return str(found[-1]) if found else None


def public(history: Sequence[Step]) -> list[dict[str, JsonValue]]:
    """`history` for an exported file: without readings, origins and tokenizers, and with paths cut to their last names.

    A model file keeps the paths, so that its data are found again; a graph is meant to be given away.
    """
    steps = (
        step.model_dump(mode="json", exclude={"readings": True, "arguments": {ORIGIN, TOKENIZER}}) for step in history
    )
    return [nameless(step) for step in steps]


def nameless(content: Any) -> Any:
    """JSON in which every absolute path, and every path of data, is cut to its last name."""
    match content:
        case dict():
            return {name: nameless(value) for name, value in content.items()}
        case list() | tuple():
            return [nameless(value) for value in content]
        case str():
            return _cut(content)
    return content


def _cut(text: str) -> str:
    found = _DATA.search(text)
    if found is not None and found[1].startswith("hf") and _HUB.fullmatch(found[2]):
        return text
    if found is not None:
        places = found[2].split(",") if found[1].startswith(_TABLES) else [found[2]]
        return f"{text[: found.start()]}{_TOKENIZER.sub(_named, found[1])}{','.join(map(_last, places))}"
    return _PLACE.sub(lambda place: _last(place[0]), text)


def _named(choice: re.Match[str]) -> str:
    return f"{choice[1]}{_last(choice[2])}"


def _last(place: str) -> str:
    windows = "\\" in place
    return (PureWindowsPath(place) if windows else PurePosixPath(place)).name or "data"


def _whole(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
