"""Recording what a module does with tensors, call by call: of a network its parts are single calls, of a part everything.

Source: the idea of tracing is that of `torch.fx` (Reed et al., "torch.fx: Practical Program Capture and Transformation for Deep
Learning in Python", 2022).
Differs: real tensors are run instead of proxies, so that sizes are plain numbers, and every module traces; a size that follows
the batch, or the number of tokens of a text, is found by running several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wb.core.errors import Unsupported
from wb.models.layers.operator import Context, PartModule

_IN_PLACE = "writes into a tensor"
INPUTS = ("x", "stream")  # what the tensors that a part is given are called: of a join the second is the stream
TEXTS = ("x", "mask")  # and those that a network for texts is given: ids, and which of them count
RUN = ("mask", "visible", "places")  # and what a part is told of the run
GIVEN = frozenset((*INPUTS, *TEXTS, *RUN))


@dataclass(frozen=True)
class Leaf:
    """A tensor that is there before the run: one that is `GIVEN`, or a parameter or constant by its name in the module."""

    name: str


@dataclass(frozen=True)
class Made:
    """The result of the call of that number, or one of its results."""

    call: int
    item: int | None = None


@dataclass(frozen=True)
class Call:
    """A function of torch, or a part by its name in the network, with its arguments: `Leaf` and `Made` stand for tensors."""

    function: Callable[..., Any] | str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


@dataclass
class Recording:
    """The calls of a run in order, its result, and the tensors that it found made already, by the names given to them.

    `given` are the tensors that it was given by their names, the first of them `x`.
    """

    given: Mapping[str, Tensor] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    result: Leaf | Made = Leaf("x")
    shape: tuple[int, ...] = ()  # of the result
    constants: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, tuple[Any, ...]] = field(
        default_factory=dict
    )  # what each part was given: tensors, and its context


class _Recorder(TorchFunctionMode):
    """Notes each function of torch that is called, outermost only."""

    def __init__(self, known: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.known: dict[int, Leaf | Made] = {id(tensor): Leaf(name) for name, tensor in known.items()}
        self.held: list[Any] = [known]  # so that no identity is given away anew
        self.found = Recording()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) or (isinstance(result, tuple) and any(isinstance(r, Tensor) for r in result)):
            self.note(func, args, kwargs or {}, result)
        elif getattr(func, "__name__", "") == "__setitem__":
            raise Unsupported(_IN_PLACE)
        return result

    def note(
        self, func: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        """Adds a call with that result."""
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            raise Unsupported(_IN_PLACE)
        if isinstance(result, Tensor) and id(result) in self.known:
            return  # gives back what it was given
        arguments = tuple(self.named(one) for one in args)
        number = len(self.found.calls)
        self.found.calls.append(Call(func, arguments, {key: self.named(value) for key, value in kwargs.items()}))
        self.held.append(result)
        if isinstance(result, Tensor):
            self.known[id(result)] = Made(number)
        else:
            for i, one in enumerate(result):
                self.known[id(one)] = Made(number, i)

    def named(self, value: Any) -> Any:
        """An argument with names in the place of tensors; one that nobody has made is a constant."""
        if isinstance(value, Tensor):
            if id(value) not in self.known:
                name = f"constant{len(self.found.constants) or ''}"
                self.found.constants[name] = value
                self.known[id(value)] = Leaf(name)
                self.held.append(value)
            return self.known[id(value)]
        if isinstance(value, slice):
            return slice(*(self.named(one) for one in (value.start, value.stop, value.step)))
        if isinstance(value, list | tuple):
            return tuple(self.named(one) for one in value)
        return value


def record_part(part: nn.Module, *given: Any) -> Recording:
    """What a part does with what it is given: tensors, and a context. Raises `Unsupported` if it writes into tensors."""
    return _recorded(part, given, given_names(given), {})


def record_network(network: nn.Module, *given: Tensor) -> Recording:
    """What a network does with images, or ids and a mask, its parts being single calls. Raises as `record_part` does."""
    parts: dict[nn.Module, str] = {m: name for name, m in network.named_modules() if isinstance(m, PartModule)}
    return _recorded(network, given, dict(zip(TEXTS, given, strict=False)), parts)


def given_names(given: tuple[Any, ...]) -> dict[str, Tensor]:
    """The tensors that a part is given, by what they are called, with those of its context."""
    found = dict(zip(INPUTS, (one for one in given if isinstance(one, Tensor)), strict=False))
    for one in given:
        if isinstance(one, Context):
            found |= {name: value for name in RUN if (value := getattr(one, name)) is not None}
    return found


def _recorded(
    module: nn.Module, given: tuple[Any, ...], names: Mapping[str, Tensor], parts: Mapping[nn.Module, str]
) -> Recording:
    own = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    known = {**names, **own, **dict(module.named_buffers()), **dict(module.named_parameters())}
    recorder = _Recorder(known)
    recorder.found.given = names
    with torch.no_grad(), _parts_noted(recorder, parts), recorder:
        result = module.forward(*given)
    recorder.found.result, recorder.found.shape = recorder.named(result), tuple(result.shape)
    return recorder.found


@contextmanager
def _parts_noted(recorder: _Recorder, parts: Mapping[nn.Module, str]) -> Iterator[None]:
    """Makes the call of each part one call of the recording."""
    before = nn.Module.__call__

    def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if module not in parts:
            return before(module, *args, **kwargs)
        with torch._C.DisableTorchFunction():
            result = module.forward(*args, **kwargs)
        recorder.found.parts[parts[module]] = args
        recorder.note(parts[module], tuple(given_names(args).values()), {}, result)
        return result

    nn.Module.__call__ = called  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = before  # type: ignore[method-assign]
