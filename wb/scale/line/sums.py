"""Sums of what several processes have computed of one thing, which are on their way while each computes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from torch import Tensor

from wb.scale.line.loss import Lost


@dataclass(eq=False)
class Sums:
    """The processes `ranks` that add up what they have, as torch's `group`; without any this one is alone.

    `sent` is how many bytes this process has sent, as a ring sends them, counted.
    """

    ranks: tuple[int, ...] = ()
    group: dist.ProcessGroup | None = None
    sent: int = field(default=0)

    @property
    def alone(self) -> bool:
        """Whether there is nothing to add."""
        return not self.ranks

    def begun(self, part: Tensor) -> Sum:
        """Begins to add up the processes' parts, in place; `part` is not to be changed meanwhile."""
        part = part.contiguous()
        count = len(self.ranks)
        self.sent += 2 * (count - 1) * part.numel() * part.element_size() // count
        try:
            return Sum(part, dist.all_reduce(part, group=self.group, async_op=True), self.ranks)
        except RuntimeError as error:
            raise Lost(self.ranks, error) from error

    def shared(self, tensor: Tensor) -> Tensor:
        """The first process's tensor, in the place of all others'."""
        if self.alone:
            return tensor
        try:
            dist.broadcast(tensor, self.ranks[0], group=self.group)
        except RuntimeError as error:
            raise Lost(self.ranks, error) from error
        return tensor


@dataclass(frozen=True)
class Sum:
    """A sum on its way."""

    total: Tensor
    work: Any
    ranks: tuple[int, ...]

    def taken(self) -> Tensor:
        """The sum, as soon as it is there."""
        try:
            self.work.wait()
        except RuntimeError as error:
            raise Lost(self.ranks, error) from error
        return self.total
