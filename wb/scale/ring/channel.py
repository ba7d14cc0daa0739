"""The ring: each process hands tensors to the next one and takes those of the one before; bytes are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from wb.core.errors import reason
from wb.scale.team import ProcessLost, Team


@dataclass(eq=False)  # by identity, so that what has one can be a key
class Channel:
    """The `count` processes on a ring, of which this is number `rank`; `first` is the number of the first one in all.

    `sent` is how many bytes this process has sent, counted.
    """

    rank: int = 0
    count: int = 1
    first: int = 0
    group: dist.ProcessGroup | None = None
    sent: int = field(default=0, compare=False)

    @staticmethod
    def of(team: Team) -> Channel:
        """The ring of the processes that share this one's tokens; all processes have to make theirs at the same time."""
        if team.sequence == 1:
            return Channel()
        groups = [
            dist.new_group(list(range(first, first + team.sequence))) for first in range(0, team.count, team.sequence)
        ]
        own = team.rank // team.sequence
        return Channel(team.place, team.sequence, own * team.sequence, groups[own])

    def hand_on(self, tensors: Sequence[Tensor]) -> Handed:
        """Begins to send `tensors`, which do not change meanwhile, to the next process, and to receive as many."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        there = torch.empty_like(flat)
        self.sent += flat.numel() * flat.element_size()
        after, before = (self.first + (self.rank + step) % self.count for step in (1, -1))
        try:
            works = dist.batch_isend_irecv([dist.P2POp(dist.isend, flat, after), dist.P2POp(dist.irecv, there, before)])
        except RuntimeError as error:
            raise _lost(error) from error
        return Handed(works, flat, there, [tensor.shape for tensor in tensors])

    def added_up(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors, in place; a ring sends 2 (R - 1) / R of it."""
        if self.count > 1:
            try:
                dist.all_reduce(tensor, group=self.group)
            except RuntimeError as error:
                raise _lost(error) from error
            self.sent += 2 * (self.count - 1) * tensor.numel() * tensor.element_size() // self.count
        return tensor

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The processes' tensors of one shape, by their number; each goes to all others."""
        if self.count == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        try:
            dist.all_gather(found, tensor.contiguous(), group=self.group)
        except RuntimeError as error:
            raise _lost(error) from error
        self.sent += (self.count - 1) * tensor.numel() * tensor.element_size()
        return found


@dataclass(frozen=True)
class Handed:
    """Tensors on their way."""

    works: Sequence[dist.Work]
    flat: Tensor  # kept until it is sent
    there: Tensor
    shapes: Sequence[torch.Size]

    def taken(self) -> list[Tensor]:
        """What the process before sent, as soon as it is there."""
        try:
            for work in self.works:
                work.wait()
        except RuntimeError as error:
            raise _lost(error) from error
        parts = self.there.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def _lost(error: RuntimeError) -> ProcessLost:
    return ProcessLost(f"another of the processes that share tokens has ended or does not answer ({reason(error)})")
