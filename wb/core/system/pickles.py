"""Scanning a pickle before it is loaded: nesting depth, expanded size, names, and dictionary keys.

A pickle is a program for a small stack machine. Loaders that refuse to run foreign code still build any tuples the program
describes. Hashing a tuple that is nested a million times, or that shares its parts forty levels deep, crashes the process
or never ends. `scan` therefore first runs the program on the sizes of objects instead of the objects, in linear time.
"""

from __future__ import annotations

import pickletools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from wb.core.errors import printable

MAX_OPCODES = 1_000_000  # enough for 28,000 tensors
MAX_DEPTH = 100
MAX_EXPANDED = 1 << 24  # objects; a shared object counts at each use

# The instructions that plain data need. Excluded: instances, sets, extension codes, and buffers outside the file.
_PLAIN = """
PROTO STOP FRAME MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""
PLAIN = frozenset(_PLAIN.split())
_FILLS = frozenset(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"))  # change the object below their arguments
_NO_KEYS = frozenset(("tuple", "list", "dict", "long number"))  # thousands of chosen tuples or numbers can share a hash
_LONGEST = 1 << 63


class SuspiciousPickle(ValueError):
    """A pickle that no honest program writes; the message says why in half a sentence."""


class DamagedPickle(SuspiciousPickle):
    """Bytes that are not a pickle, or a truncated or corrupted one."""


class ForeignName(SuspiciousPickle):
    """A pickle that imports a name that is not allowed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {name}")
        self.name = name


class Stream(Protocol):
    """The input: bytes in memory or a mapped file. Reading from it must not allocate the length that a damaged file claims."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...

    def tell(self) -> int: ...


def scan(stream: Stream, size: int, *, opcodes: Collection[str] = PLAIN, names: Collection[str] | None = None) -> None:
    """Checks the pickle that starts at the position of `stream`, whose end is at `size`; leaves the stream after the pickle.

    Raises:
        ForeignName: it imports a name (`module.name`) that is not in `names`, if that is given. Names built on the stack are
            not checked; leave STACK_GLOBAL out of `opcodes` to exclude them.
        DamagedPickle: it is truncated, is not a pickle, or has an opcode that is not in `opcodes`.
        SuspiciousPickle: it has more than `MAX_OPCODES` instructions, is nested deeper than `MAX_DEPTH`, expands to more than
            `MAX_EXPANDED` objects, or has dictionary keys other than text and small numbers.
    """
    machine = _Machine(size, names)
    try:
        for steps, (opcode, argument, position) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if steps == MAX_OPCODES:
                raise SuspiciousPickle(f"it has more than {MAX_OPCODES:,} instructions")
            if opcode.name not in opcodes:
                raise DamagedPickle(f"it has the instruction {opcode.name}, which plain data do not need")
            machine.step(opcode.name, argument, position or 0)
    except SuspiciousPickle:
        raise
    except LookupError:
        raise DamagedPickle("an instruction finds nothing to work on") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise DamagedPickle(printable(str(error))) from None


@dataclass(slots=True)
class _Cell:
    """An object on the stack: its nesting depth, its expanded size in objects, and its kind."""

    depth: int
    size: int
    kind: str


class _Effect(NamedTuple):
    """The stack effect of an opcode: it removes `fixed` objects and, if `marked`, all above the last mark; it adds a `kind`."""

    fixed: int
    marked: bool
    kind: str | None


def _effect(opcode: pickletools.OpcodeInfo) -> _Effect:
    before = list(opcode.stack_before)
    marked = pickletools.markobject in before
    fixed = before.index(pickletools.markobject) if marked else len(before)
    return _Effect(fixed, marked, opcode.stack_after[0].name if opcode.stack_after else None)


_EFFECTS = {opcode.name: _effect(opcode) for opcode in pickletools.opcodes}


class _Machine:
    """The stack machine of pickle, run on cells instead of objects."""

    def __init__(self, size: int, names: Collection[str] | None) -> None:
        self.size, self.names = size, names
        self.stack: list[_Cell] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, _Cell] = {}

    def step(self, name: str, argument: Any, position: int) -> None:
        """Applies the opcode at `position` to the stack of cells."""
        match name:
            case "PROTO":
                pass
            case "STOP" if self.marks or len(self.stack) != 1:
                raise DamagedPickle(f"it ends with {len(self.stack)} results and {len(self.marks)} open lists")
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._put(int(argument))
            case "BINGET" | "LONG_BINGET" | "GET":
                self.stack.append(self.memo[int(argument)])
            case "MEMOIZE":
                self._put(len(self.memo))
            case "MARK":
                self.marks.append(len(self.stack))
            case "GLOBAL":
                self._name(argument.replace(" ", ".", 1))
            case "FRAME" if argument > self.size - position:
                raise DamagedPickle(f"a part of {argument:,} bytes does not end in it")
            case _:
                self._apply(name, argument)

    def _name(self, name: str) -> None:
        if self.names is not None and name not in self.names:
            raise ForeignName(name)
        self.stack.append(_Cell(1, 1, name))

    def _put(self, index: int) -> None:
        if not 0 <= index <= MAX_OPCODES:  # loaders allocate a memo of this length
            raise DamagedPickle(f"it remembers an object under the number {index:,}")
        self.memo[index] = self.stack[-1]

    def _apply(self, name: str, argument: Any) -> None:
        effect = _EFFECTS[name]
        if name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()  # this POP removes a mark, not an object
            return
        taken = self._take(effect, name)
        if name in ("SETITEM", "SETITEMS", "DICT"):
            _check_keys(taken[0::2] if name == "DICT" else taken[1::2])
        if name == "REDUCE" and taken[0].kind == "collections.OrderedDict" and taken[1].size > 1:
            raise SuspiciousPickle("it fills a dictionary in a way that hides its keys")
        if name in _FILLS:
            _grow(taken[0], taken[1:])
            self.stack.append(taken[0])
        elif name == "DUP":
            self.stack += [taken[0], taken[0]]
        elif effect.kind is not None:
            made = _Cell(1, 1, effect.kind)
            if type(argument) is int and not -_LONGEST <= argument < _LONGEST:
                made.kind = "long number"
            _grow(made, taken)
            self.stack.append(made)

    def _take(self, effect: _Effect, name: str) -> list[_Cell]:
        """Removes the opcode's arguments from the stack and returns them, the lowest first."""
        start = (self.marks.pop() if effect.marked else len(self.stack)) - effect.fixed
        if start < (self.marks[-1] if self.marks else 0):
            raise DamagedPickle(f"{name} finds nothing to work on")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken


def _grow(whole: _Cell, parts: Iterable[_Cell]) -> None:
    for part in parts:
        whole.size += part.size
        if part.depth >= whole.depth:
            whole.depth = part.depth + 1
    if whole.depth > MAX_DEPTH:
        raise SuspiciousPickle(f"it is nested deeper than {MAX_DEPTH} levels")
    if whole.size > MAX_EXPANDED:
        raise SuspiciousPickle(f"it shares its parts so often that it stands for more than {MAX_EXPANDED:,} objects")


def _check_keys(keys: Iterable[_Cell]) -> None:
    for key in keys:
        if key.kind in _NO_KEYS:
            raise SuspiciousPickle(f"a key of one of its dictionaries is a {key.kind}, neither text nor a small number")
