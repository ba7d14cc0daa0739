"""A recording as lines of Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.errors import Unsupported
from wb.export.plain.recording import GIVEN, Call, Leaf, Made, Recording

WIDTH = 100  # of an expression
_INFIX = {  # names of torch's methods -> the operator, and how tightly it binds
    "mul": ("*", 5), "div": ("/", 5), "matmul": ("@", 5), "add": ("+", 4), "sub": ("-", 4), "pow": ("**", 7),
    "gt": (">", 2), "lt": ("<", 2), "ge": (">=", 2), "le": ("<=", 2), "eq": ("==", 2), "ne": ("!=", 2),
}  # fmt: skip
_REVERSED = {"__rsub__": ("-", 4), "__rdiv__": ("/", 5), "__rtruediv__": ("/", 5), "__rpow__": ("**", 7)}
_SILENT = ("device", "inplace")  # options that change no number
_TIGHT = 9  # names, calls, subscripts


class Text(NamedTuple):
    """An expression, and how tightly its outermost operator binds."""

    words: str
    binds: int = _TIGHT

    def within(self, binds: int) -> str:
        """The expression as an operand of an operator that binds so tightly."""
        return self.words if self.binds > binds else f"({self.words})"


@dataclass(frozen=True)
class Size:
    """A size that is `times` the number of examples, or of tokens, or of both, and `more` than that."""

    times: int = 1
    batch: bool = False
    tokens: bool = False
    more: int = 0

    def of(self, batch: int, tokens: int) -> int:
        """The size in a run of so many."""
        return self.times * (batch if self.batch else 1) * (tokens if self.tokens else 1) + self.more

    @property
    def text(self) -> Text:
        """The size of what is called `x`."""
        factors = [str(self.times)] if self.times > 1 else []
        factors += ["len(x)"] if self.batch else []
        factors += ["x.shape[1]"] if self.tokens else []
        product = Text(" * ".join(factors), _TIGHT if len(factors) == 1 else 5)
        if not self.more:
            return product
        return Text(f"{product.words} {'+' if self.more > 0 else '-'} {abs(self.more)}", 4)


def merged(*runs: Recording) -> Recording:
    """Recordings of runs of other sizes as one, in which sizes that follow the numbers of examples and of tokens say so.

    Raises:
        Unsupported: they differ otherwise.
    """
    first, *others = runs
    names = first.constants.keys()
    if any(len(one.calls) != len(first.calls) or one.constants.keys() != names for one in others):
        raise Unsupported(f"does other things for other numbers of {_of_what(runs)}")
    for name, tensor in first.constants.items():
        if any(not _same(tensor, one.constants[name]) for one in others):
            raise Unsupported(f"has other constants for other numbers of {_of_what(runs)}")
    calls = []
    for made in zip(*(one.calls for one in runs), strict=True):
        call = made[0]
        if any(_form(one) != _form(call) for one in made):
            raise Unsupported(f"does other things for other numbers of {_of_what(runs)}")
        arguments = tuple(_merged(each, runs) for each in zip(*(one.arguments for one in made), strict=True))
        options = {key: _merged(tuple(one.options.get(key) for one in made), runs) for key in call.options}
        calls.append(Call(call.function, arguments, options))
    return Recording(first.given, calls, first.result, first.shape, first.constants, first.parts)


def _form(call: Call) -> tuple[object, ...]:
    """What calls of different runs have to have in common."""
    return call.function, len(call.arguments), call.options.keys()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _of_what(runs: Sequence[Recording]) -> str:
    return "texts or tokens" if len({_sizes(one)[1] for one in runs}) > 1 else "images"


def _sizes(run: Recording) -> tuple[int, int]:
    """The number of examples in a run, and of what each has: tokens, of texts."""
    shape = run.given["x"].shape
    return int(shape[0]), int(shape[1]) if len(shape) > 1 else 1


def _merged(values: tuple[Any, ...], runs: Sequence[Recording]) -> Any:
    """One value for those of all runs."""
    first = values[0]
    if all(isinstance(one, tuple) and len(one) == len(first) for one in values):
        return tuple(_merged(each, runs) for each in zip(*values, strict=True))
    if all(isinstance(one, slice) for one in values):
        start, stop = (_merged(tuple(getattr(one, end) for one in values), runs) for end in ("start", "stop"))
        return slice(start, stop, first.step)
    if all(one == first or (isinstance(one, float) and math.isnan(one)) for one in values):
        return first
    if all(isinstance(one, int) for one in values):
        sizes = [_sizes(run) for run in runs]
        for size in _candidates(first, *sizes[0]):
            if all(size.of(*each) == value for each, value in zip(sizes, values, strict=True)):
                return size
    other = next(one for one in values if one != first)
    raise Unsupported(f"has {first} where it has {other} for another number of {_of_what(runs)}")


def _candidates(value: int, batch: int, tokens: int) -> Iterator[Size]:
    """The sizes that have this value in a run of so many."""
    for whole, options in ((batch, (True, False)), (tokens, (False, True)), (batch * tokens, (True, True))):
        if value and value % whole == 0:
            yield Size(value // whole, *options)
    yield Size(1, tokens=True, more=value - tokens)


class Writer:
    """Writes the calls of a recording as assignments and a last expression; single uses are written where they are used.

    `leaf` gives the text of a leaf, and `part` the name of the function that stands for a part; None for one that gives back
    what it is given.
    """

    def __init__(
        self,
        recording: Recording,
        leaf: Callable[[str], str],
        part: Callable[[str], Callable[[Sequence[str]], str] | None] | None = None,
    ) -> None:
        self.recording, self.leaf, self.part, self.hinted = recording, leaf, part, part is None
        self.lines: list[str] = []
        self.texts: dict[int, Text] = {}
        self.names: Counter[str] = Counter()

    def __call__(self) -> list[str]:
        """The lines; the last returns the result."""
        live, uses = self._uses()
        for number in live:
            text = self._text(self.recording.calls[number])
            if uses[number] > 1:
                text = Text(self._assigned(text.words, self._hint(number)))
            self.texts[number] = text
        return [*self.lines, f"return {self._value(self.recording.result).words}"]

    def _uses(self) -> tuple[list[int], Counter[int]]:
        """The calls that the result needs, in order, and how often each is used."""
        uses: Counter[int] = Counter()
        todo = [one.call for one in _made(self.recording.result)]
        seen: set[int] = set()
        uses.update(todo)
        while todo:
            number = todo.pop()
            if number in seen:
                continue
            seen.add(number)
            call = self.recording.calls[number]
            further = [one.call for one in _made((*call.arguments, *call.options.values()))]
            uses.update(further)
            todo += further
        return sorted(seen), uses

    def _assigned(self, words: str, hint: str) -> str:
        """Adds the assignment of an expression to a new name, which it returns."""
        self.names[hint] += 1
        name = hint if self.names[hint] == 1 else f"{hint}{self.names[hint]}"
        self.lines.append(f"{name} = {words}")
        return name

    def _hint(self, number: int) -> str:
        """A name for the result of a call: after the only weight that it is made with, `wq` -> `q`, else `y`."""
        found = [one.name for one in _leaves(self.recording, number) if one.name not in GIVEN] if self.hinted else []
        weights = [name for name in found if "." not in name and not name.endswith("bias")]
        first = weights[0].removeprefix("w") if len(weights) in (1, 2) else ""
        return first if first.isidentifier() and first not in ("x", "w", "F", *GIVEN) else "y"

    # ------------------------------------------------------------------------------------------------------ expressions

    def _text(self, call: Call) -> Text:
        arguments: list[Any] = list(call.arguments)
        text = self._said(call, arguments)
        while len(text.words) > WIDTH:  # the longest argument gets a line of its own
            inner = [one for one in _made(arguments) if self.texts.get(one.call, Text("")).binds and self._long(one)]
            if not inner:
                break
            longest = max(inner, key=lambda one: len(self.texts[one.call].words))
            self.texts[longest.call] = Text(self._assigned(self.texts[longest.call].words, self._hint(longest.call)))
            text = self._said(call, arguments)
        return text

    def _long(self, one: Made) -> bool:
        return not self.texts[one.call].words.isidentifier()

    def _said(self, call: Call, arguments: Sequence[Any]) -> Text:
        if isinstance(call.function, str):
            if self.part is None:
                raise Unsupported(f"has a part within a part, {call.function}")
            inner, named = [self._value(one) for one in arguments], self.part(call.function)
            return inner[0] if named is None else Text(named([one.words for one in inner]))
        found = self._signed(call.function, call, arguments)
        return self._called(call.function, call, arguments) if found is None else found

    def _signed(self, function: Callable[..., Any], call: Call, arguments: Sequence[Any]) -> Text | None:
        """A call that Python has a sign for, or no need of."""
        name, first = _name(function), arguments[0] if arguments else None
        if _is_property(function):
            return Text(f"{self._value(first).within(_TIGHT - 1)}.{name}")
        if name == "__getitem__":
            return Text(f"{self._value(first).within(_TIGHT - 1)}[{self._index(arguments[1])}]")
        if name == "neg":
            return Text(f"-{self._value(first).within(6)}", 6)
        if call.options or len(arguments) != 2:
            return None
        if name in _REVERSED:
            return self._infix(*_REVERSED[name], arguments[1], first)
        if name in _INFIX:
            return self._infix(*_INFIX[name], first, arguments[1])
        return self._value(first) if name == "to" and isinstance(arguments[1], torch.device) else None

    def _called(self, function: Callable[..., Any], call: Call, arguments: Sequence[Any]) -> Text:
        """A call of a function of torch, or of a method of its first argument."""
        name, place, given = _name(function), _place(function), list(arguments)
        options = {key: value for key, value in call.options.items() if key not in _SILENT and value is not None}
        target = f"{self._value(given.pop(0)).within(_TIGHT - 1)}.{name}" if place is None else f"{place}.{name}"
        while given and given[-1] is None and not options:
            given.pop()
        words = [self._value(one).words for one in given if not isinstance(one, torch.device)]
        words += [f"{key}={self._value(value).words}" for key, value in options.items()]
        return Text(f"{target}({', '.join(words)})")

    def _infix(self, sign: str, binds: int, left: Any, right: Any) -> Text:
        return Text(f"{self._value(left).within(binds - 1)} {sign} {self._value(right).within(binds)}", binds)

    def _index(self, index: Any) -> str:
        parts = index if isinstance(index, tuple) else (index,)
        return ", ".join(self._slice(one) if isinstance(one, slice) else self._value(one).words for one in parts)

    def _slice(self, one: slice) -> str:
        start, stop, step = ("" if end is None else self._value(end).words for end in (one.start, one.stop, one.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")

    def _value(self, value: Any) -> Text:
        match value:
            case Leaf(name):
                return Text(self.leaf(name))
            case Made(call, item):
                text = self.texts[call]
                return text if item is None else Text(f"{text.within(_TIGHT - 1)}[{item}]")
            case Size():
                return value.text
            case tuple():
                return Text(f"({', '.join(self._value(one).words for one in value)}{',' if len(value) == 1 else ''})")
            case torch.dtype():
                return Text(str(value))
            case float() if math.isinf(value):
                return Text(f'float("{value}")')
            case int() | float() if value < 0:
                return Text(repr(value), 6)
            case None | bool() | int() | float() | str():
                return Text(repr(value))
            case _ if value is Ellipsis:
                return Text("...")
        raise Unsupported(f"has an argument of the type {type(value).__name__}")


def _made(value: Any) -> Iterator[Made]:
    """The results of calls in an argument."""
    if isinstance(value, Made):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _made(one)
    elif isinstance(value, slice):
        yield from _made((value.start, value.stop))


def _leaves(recording: Recording, number: int) -> Iterator[Leaf]:
    """The leaves that a call is made of, through all calls before it; each call is looked at once."""
    call = recording.calls[number]
    todo: list[Any] = [*call.arguments, *call.options.values()]
    seen: set[int] = set()  # a residual stream has twice as many ways back behind each sub-layer
    while todo:
        one = todo.pop(0)
        if isinstance(one, Leaf):
            yield one
        elif isinstance(one, Made) and one.call not in seen:
            seen.add(one.call)
            inner = recording.calls[one.call]
            todo += [*inner.arguments, *inner.options.values()]
        elif isinstance(one, list | tuple):
            todo += one


def _is_property(function: Callable[..., Any]) -> bool:
    return getattr(function, "__name__", "") == "__get__"


def _name(function: Callable[..., Any]) -> str:
    name = function.__self__.__name__ if _is_property(function) else function.__name__  # type: ignore[attr-defined]
    return str(name)


def _place(function: Callable[..., Any]) -> str | None:
    """Where a function is found: `F`, `torch`, or None for a method of tensors."""
    name = function.__name__
    if getattr(F, name, None) is function:
        return "F"
    if getattr(torch, name, None) is function:
        return "torch"
    if hasattr(Tensor, name):
        return None
    raise Unsupported(f"calls {name}, which is no function of torch's")
