"""Which process it was that ended: each that loses another one leaves word of it, so that the first loss is found.

When a process ends, its neighbours end for it, and theirs for them: whoever loses a process that itself has lost another one
says the latter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from wb.core.errors import reason
from wb.scale.joining import Board
from wb.scale.team import ProcessLost

PATIENCE_S = 1.0  # for the word of a process that ended because it lost another one
_GLANCE_S = 0.05


class Lost(Exception):
    """One of the processes `ranks` does not answer."""

    def __init__(self, ranks: Iterable[int], error: Exception) -> None:
        super().__init__(reason(error))
        self.ranks = tuple(ranks)


@contextmanager
def naming(rank: int, board: Board, called: Callable[[int], str]) -> Iterator[None]:
    """Within, a process that is lost is named; `called` says a process in words, `rank` is this one.

    Raises:
        ProcessLost: in the place of `Lost`.
    """
    try:
        yield
    except Lost as lost:
        first = _first(rank, [one for one in lost.ranks if one != rank], board)
        raise ProcessLost(
            f"{' or '.join(map(called, first))} has ended or does not answer ({lost}), and so the others end; start the command "
            "again"
        ) from lost


def _first(rank: int, suspects: list[int], board: Board) -> list[int]:
    """The process that ended first, of those that word was left of; several where it may be any of them.

    One that computes for long leaves no word in time either, and so is not told from the one that has ended.
    """
    seen = {rank}
    _leave(board, rank, suspects)
    while True:
        words = _words(board, suspects)
        silent = [one for one in suspects if one not in words]
        seen |= set(words)
        further = [one for others in words.values() for one in others if one not in seen]
        if silent or not further:  # each says that it lost one that says so too
            return silent or suspects
        suspects = further


def _leave(board: Board, rank: int, suspects: Iterable[int]) -> None:
    try:
        board.leave(_name(rank), ",".join(map(str, suspects)))
    except RuntimeError:  # the store ended with the first process
        return


def _words(board: Board, ranks: list[int]) -> dict[int, list[int]]:
    """Whom those processes have lost that say so within a time."""
    found: dict[int, list[int]] = {}
    until = time.monotonic() + PATIENCE_S
    while len(found) < len(ranks) and time.monotonic() < until:
        for one in ranks:
            try:
                word = board.found(_name(one))
            except RuntimeError:
                return found
            if word is not None:
                found[one] = [int(number) for number in word.split(",") if number]
        time.sleep(_GLANCE_S)
    return found


def _name(rank: int) -> str:
    return f"lost-{rank}"
