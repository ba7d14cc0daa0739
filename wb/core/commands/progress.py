"""How work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[
    [str, int, int], None
]  # what is being done, how much of it is done, of how much; 0 where that is unknown
Count = Callable[[int, int], None]  # of one thing that is being done: how much of it is, and of how much

_hearing: list[Callable[[str], None]] = []


@contextmanager
def heard(say: Callable[[str], None]) -> Iterator[None]:
    """Within it `say` hears what is `told`, from whatever depth: what a user has to know while nothing goes on."""
    _hearing.append(say)
    try:
        yield
    finally:
        _hearing.remove(say)


def told(text: str) -> None:
    """Tells the user a line, if somebody hears it."""
    if _hearing:
        _hearing[-1](text)
