"""Processes that train one network together: each takes its part of every batch, and gradients are averaged once a step.

Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", 2020,
https://arxiv.org/abs/2006.15704, without its hooks: a step of a supernet runs several networks backwards, so that gradients
are only whole when all of them have run.
Differs: one all-reduce of all gradients that are there, behind the last backward, so that nothing has to be known of the
networks that a step draws. All processes draw the same ones, and lack the same gradients.
Limits: communication does not overlap with computing. Batch norms see a process's part of the batch, dropout has masks of each
process's own: with these, weights are not those of one process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wb.core.errors import WbError, reason
from wb.core.system.files import irregular

T = TypeVar("T")


class ProcessLost(WbError, ConnectionError):
    """Another process of a training ended, or does not answer."""


@dataclass(frozen=True)
class Team:
    """The `count` processes of a training; this one has number `rank`, and that of rank 0 alone writes files.

    A process of one has nothing to wait for: every method then gives what it was given. Others have torch's default group of
    processes (`wb.scale.joining`). With `sequence` above one so many neighbours share each part of a batch, of whose tokens each
    has some.
    """

    rank: int = 0
    count: int = 1
    sequence: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and tells the user."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    @property
    def place(self) -> int:
        """This process's number among those that share the tokens of an example."""
        return self.rank % self.sequence

    def rows(self, size: int) -> tuple[slice, float]:
        """Which examples of a batch are this process's, and what share of the batch its gradients are.

        A process for which none are left takes one whose gradients count nothing, so that it lacks the same gradients as others.
        """
        groups = self.count // self.sequence
        taken = slice(self.rank // self.sequence, size, groups)
        own = len(range(size)[taken])
        return (taken, own / size / self.sequence) if own else (slice(0, 1), 0.0)

    def reduce(self, weights: Mapping[str, nn.Parameter], share: float, loss: float) -> float:
        """Puts the sum over all processes of gradients times `share` into the gradients, and returns that of the losses.

        Weights without a gradient have to be the same ones in all processes.

        Raises:
            ProcessLost: another process has ended.
        """
        if self.alone:
            return loss
        present = [weight.grad for weight in weights.values() if weight.grad is not None]
        told = torch.tensor([loss * share], dtype=torch.float64)
        for grads in _by_kind(present):
            flat = torch.cat([grad.flatten() for grad in grads]).mul_(share)
            self._asked(lambda flat=flat: dist.all_reduce(flat))  # type: ignore[misc]
            for grad, summed in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(summed.view_as(grad))
        self._asked(lambda: dist.all_reduce(told))
        return float(told)

    def agree(self, values: Iterable[Tensor], source: int = 0) -> None:
        """Puts the values of the process `source` in the place of all others'.

        Raises:
            ProcessLost: another process has ended.
        """
        if self.alone:
            return
        with torch.no_grad():
            for alike in _by_kind(values):
                flat = torch.cat([value.flatten() for value in alike])
                self._asked(lambda flat=flat: dist.broadcast(flat, source))  # type: ignore[misc]
                for value, sent in zip(alike, flat.split([value.numel() for value in alike]), strict=True):
                    value.copy_(sent.view_as(value))

    def hand_in(self, content: bytes) -> None:
        """Gives the first process what this one has; it takes that with `handed_in`.

        Raises:
            ProcessLost: another process has ended.
        """
        sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self._asked(lambda: dist.send(torch.tensor([len(content)]), 0))
        self._asked(lambda: dist.send(sent, 0))

    def handed_in(self) -> Iterator[bytes]:
        """What each of the others hands in, one after the other, so that one alone is held at a time. Raises as `hand_in`."""
        for rank in range(1, self.count):
            size = torch.tensor([0])
            self._asked(lambda size=size, rank=rank: dist.recv(size, rank))  # type: ignore[misc]
            content = torch.zeros(int(size), dtype=torch.uint8)
            self._asked(lambda content=content, rank=rank: dist.recv(content, rank))  # type: ignore[misc]
            yield content.numpy().tobytes()

    def shared(self, make: Callable[[], bytes]) -> bytes:
        """What the first process makes, in all of them.

        Raises:
            ProcessLost: another process has ended.
        """
        content = make() if self.leads else b""
        if self.alone:
            return content
        size = torch.tensor([len(content)])
        self._asked(lambda: dist.broadcast(size, 0))
        sent = torch.zeros(int(size), dtype=torch.uint8)
        if self.leads and content:
            sent.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        if len(sent):
            self._asked(lambda: dist.broadcast(sent, 0))
        return content if self.leads else sent.numpy().tobytes()

    @contextmanager
    def copied(self, path: Path) -> Iterator[Path]:
        """The first process's file at `path`, or a copy of it elsewhere; the path is one of no file if it has none."""
        there = self.shared(lambda: b"1" if irregular(path) != "does not exist" else b"")
        content = b"" if self.alone or not there else self.shared(path.read_bytes)
        if self.leads:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="wb-") as folder:
            copy = Path(folder) / path.name
            if there:
                copy.write_bytes(content)
            yield copy

    def _asked(self, collective: Callable[[], T]) -> T:
        try:
            return collective()
        except RuntimeError as error:  # what torch raises for a closed connection, and for one that takes too long
            raise ProcessLost(
                f"another of the {self.count} processes that train together has ended or does not answer ({reason(error)}); "
                "the same command continues at the last finished epoch"
            ) from error


ALONE = Team()


def _by_kind(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Those of each type together."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for one in tensors:
        kinds.setdefault(one.dtype, []).append(one)
    return list(kinds.values())
