"""Files that are nearly right: truncated, with flipped bits, other types, absurd sizes. Seeded, and without a suite around.

`bytes_of` and `json_of` mutate a good file; `PICKLES` are hostile ones. `outcome` runs a reader and tells a result from a
refusal; whatever else is raised goes through, and after `LIMIT` seconds `Stalled` is.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import signal
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from wb.core.errors import WbError

LIMIT = 30.0  # seconds: a bound on hanging, not on speed
LONGEST = 1000  # characters of what a user is told

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e-320, 1e308, float("nan"), float("inf"), -float("inf"),
    "", "a", "\ud800", "[/]", "[bold]x", "\x1b[31mred", "\x00", "x" * 5000, "fp32", [], {}, [[]], {"": 0}, [1, "2", None],
)  # fmt: skip
SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)


class Stalled(BaseException):
    """A reader did not end; no `Exception`, since readers turn those into refusals."""


def outcome(read: Callable[[], object], limit: float = LIMIT) -> str:
    """`read`, or `refused: …` with the paragraph; anything else that is raised goes through.

    Raises:
        AssertionError: the refusal is no paragraph: several lines, terminal codes, or more than `LONGEST` characters.
        Stalled: after `limit` seconds.
    """

    def stop(*_: object) -> None:
        raise Stalled(f"no end after {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        read()
    except WbError as error:
        text = str(error)
        assert text, "a refusal without a word"
        assert "\n" not in text, f"more than a paragraph: {text!r}"
        assert "\x1b" not in text, f"terminal codes: {text!r}"
        assert len(text) <= LONGEST, f"{len(text)} characters: {text[:200]!r}"
        return f"refused: {text}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return "read"


def bytes_of(content: bytes, random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged versions of `content`, each with what was done to it."""
    kinds = (_cut, _flipped, _zeroed, _noisy, _doubled, _dropped, _sized)
    yield "empty", b""
    for i in range(count - 1):
        kind = kinds[i % len(kinds)]
        yield f"{kind.__name__.strip('_')} {i}", kind(content, random)


def json_of(value: Any, random: Random, count: int) -> Iterator[tuple[str, str]]:
    """`count` texts: `value` as JSON, with one or two places replaced, removed, added or repeated."""
    yield "deep list", "[" * 200_000
    yield "deep object", '{"a":' * 200_000 + "1" + "}" * 200_000
    yield "no JSON", "{'a': 1}"
    for i in range(count - 3):
        changed = copy.deepcopy(value)
        done = [_change(changed, random) for _ in range(random.choice((1, 1, 2)))]
        yield f"{i}: {', '.join(done)}", json.dumps(changed)


def zip_of(content: bytes, random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` versions of an archive with one part damaged, and checksums that say nothing of it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    for i in range(count):
        name = random.choice([*parts, next((n for n in parts if n.endswith(".pkl")), next(iter(parts)))])
        what, damaged = list(bytes_of(parts[name], random, 8))[i % 8]
        yield f"{name} {what} {i}", packed({**parts, name: damaged})


def packed(parts: dict[str, bytes]) -> bytes:
    """The parts as an archive without compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return buffer.getvalue()


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content))]


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 20))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _zeroed(content: bytes, random: Random) -> bytes:
    start, length = random.randrange(len(content)), random.choice((1, 8, 64, 512))
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


def _noisy(content: bytes, random: Random) -> bytes:
    start, length = random.randrange(len(content)), random.choice((1, 4, 64))
    return content[:start] + random.randbytes(length) + content[start + length :]


def _doubled(content: bytes, random: Random) -> bytes:
    start, length = random.randrange(len(content)), random.choice((1, 16, 256))
    return (
        content[: start + length] + content[start : start + length] * random.choice((1, 5)) + content[start + length :]
    )


def _dropped(content: bytes, random: Random) -> bytes:
    start, length = random.randrange(len(content)), random.choice((1, 4, 64))
    return content[:start] + content[start + length :]


def _sized(content: bytes, random: Random) -> bytes:
    """A number where one may be, near the start, is an absurd one."""
    width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    number = random.choice([size for size in SIZES if size < 1 << 8 * width])
    start = random.randrange(min(len(content), 512))
    return content[:start] + number.to_bytes(width, order) + content[start + width :]  # type: ignore[arg-type]


def _change(value: Any, random: Random) -> str:
    """Changes one place of `value`, in place; says which."""
    places = list(_places(value, ()))
    if not places:
        return "nothing"
    path = random.choice(places)
    parent = value
    for step in path[:-1]:
        parent = parent[step]
    last, kind = path[-1], random.randrange(8)
    if kind == 0 and isinstance(parent, dict):
        del parent[last]
    elif kind == 1 and isinstance(parent, dict):
        parent[random.choice(("", "x", "\ud800", "[/]", "\x1b[1m", "y" * 3000))] = random.choice(ODD)
    elif kind == 2 and isinstance(parent, list):
        parent *= random.choice((0, 2, 1000))
    elif kind == 3:
        nested: Any = 0
        for _ in range(random.choice((5, 150, 500))):
            nested = [nested]
        parent[last] = nested
    else:
        parent[last] = copy.deepcopy(random.choice(ODD))
    return ".".join(map(str, path))


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, (*path, key))


def _shared(levels: int) -> bytes:
    """A tuple of two of a tuple of two …, as a key: hashing it takes 2 ** levels steps."""
    return b"\x80\x02})" + b"2\x86" * levels + b"K\x01s."


class _Calls:
    """Pickles as a call of something that a reader must never call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


PICKLES: dict[str, bytes] = {
    "deep key": b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s.",
    "deep value": b"\x80\x02}X\x01\x00\x00\x00a)" + b"\x85" * 10**6 + b"s.",
    "deep lists": b"\x80\x02" + b"]" * 10**4 + b"a" * (10**4 - 1) + b".",
    "shared keys": _shared(60),
    "marks": b"\x80\x02" + b"(" * 10**5 + b".",
    "memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
    "long": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "decimal": b"L" + b"9" * 100_000 + b"L\n.",
    "equal hashes": pickle.dumps({i * (2**61 - 1): 0 for i in range(1, 5000)}, 2),
    "hidden keys": b"\x80\x02ccollections\nOrderedDict\n]" + b"(])" + b"2\x86" * 50 + b"K\x01e\x85a\x85R.",
    "large array": pickle.dumps(_Calls(bytearray, 1 << 60), 2),
    "call": pickle.dumps({b"data": _Calls(exec, "raise SystemExit")}, 2),
    "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "itself": b"\x80\x02]q\x00h\x00a.",
    "nothing": b"\x80\x02N.",
    "no stop": b"\x80\x02N",
    "stop first": b".",
    "pops": b"0000.",
    "extension": b"\x80\x02\x82\x01.",
    "surrogates": b"\x80\x02}X\x03\x00\x00\x00\xed\xa0\x80N" + b"s.",
}
