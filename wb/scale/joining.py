"""How a process that torchrun started finds the others.

torchrun starts a process again, with all others, when one has ended: names under which processes find each other are then new
ones, since those of the last try lead to processes that are gone, for which gloo waits in vain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import torch
import torch.distributed as dist

from wb.core.errors import BadOption
from wb.scale.team import ALONE, ProcessLost, Team

PATIENCE = timedelta(seconds=120)  # for a process that is connected and says nothing
WAITING = timedelta(days=30)  # for the first process to say what there is to do
_TIMES = count()  # a process may join several times, each under other names
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Board:
    """Words that processes leave for each other, in all tries and on all machines; torchrun keeps them."""

    store: Any
    tries: int

    def leave(self, name: str, word: str) -> None:
        """Leaves a word under a name."""
        if self.store is not None:
            self.store.set(name, word)

    def found(self, name: str) -> str | None:
        """The word under that name, None if there is none."""
        if self.store is None or not self.store.check([name]):
            return None
        return str(self.store.get(name).decode())

    def awaited(self, name: str) -> str:
        """The word under that name, as soon as there is one.

        Raises:
            ProcessLost: torchrun has ended meanwhile.
        """
        if self.store is None:
            raise ProcessLost("there is no other process to wait for; start several with torchrun")
        try:
            self.store.wait([name], WAITING)
            return str(self.store.get(name).decode())
        except RuntimeError as error:
            raise ProcessLost("torchrun, which the processes find each other by, has ended") from error


def started() -> bool:
    """Whether torchrun started this process, beside others."""
    return all(name in os.environ for name in _NEEDED) and int(os.environ["WORLD_SIZE"]) > 1


def world() -> int:
    """How many processes torchrun started, on all machines; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if started() else 1


def beside() -> int:
    """How many of them are on this machine, with this one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world()))


def rank() -> int:
    """This process's number among those that torchrun started, 0 without it."""
    return int(os.environ["RANK"]) if started() else 0


def board() -> Board:
    """The words that processes leave for each other."""
    tries = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return Board(_prefixed("wb"), tries) if started() else Board(None, tries)


@contextmanager
def joined(sequence: int = 1, patience: timedelta = PATIENCE) -> Iterator[Team]:
    """The processes that torchrun started together; this one alone without it.

    `sequence` of them share the tokens of each example. One that is connected and says nothing is waited for with `patience`.

    Raises:
        BadOption: they cannot be split into groups of `sequence`.
        ProcessLost: not all of them were there in time.
    """
    if not started():
        if sequence > 1:
            raise BadOption(
                f"tokens are to be spread among {sequence} processes, and there is one; start them by torchrun"
            )
        yield ALONE
        return
    size = int(os.environ["WORLD_SIZE"])
    if size % sequence:
        raise BadOption(
            f"{size} processes cannot be split into groups of {sequence} that share the tokens of an example; give "
            "--sequence-parallel a divisor of their number"
        )
    team = Team(rank(), size, sequence)
    _begin(team, patience)
    try:
        yield team
    finally:
        dist.destroy_process_group()


def _begin(team: Team, patience: timedelta) -> None:
    prefix = f"wb-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{next(_TIMES)}"
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=_prefixed(prefix),
            rank=team.rank,
            world_size=team.count,
            timeout=patience,
        )
    except RuntimeError as error:
        raise ProcessLost(
            f"{team.count} processes were to work together, and not all were there within {patience.seconds} seconds"
        ) from error


def _prefixed(prefix: str) -> Any:
    """The store, in which names begin so."""
    return dist.PrefixStore(prefix, _store())  # type: ignore[attr-defined]


@cache
def _store() -> Any:
    """torchrun's own store, or one that the first process opens where it has none."""
    own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=not own and rank() == 0,
        wait_for_workers=False,
        timeout=PATIENCE,
    )
