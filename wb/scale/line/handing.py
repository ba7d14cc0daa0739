"""Handing tensors on from process to process while each computes: some are on their way at a time, no more.

Source: Du et al., "EnergonAI", 2022, section 4.2, https://arxiv.org/abs/2209.02341: stages hand batches on without waiting.
Differs: whoever receives knows the shapes of all tensors beforehand, so that it awaits the next ones before they are sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wb.scale.line.loss import Lost

AHEAD = 2  # tensors on their way between two processes


class Sending:
    """Sends tensors to the process `peer`, at most `ahead` at a time; `sent` is how many bytes, counted."""

    def __init__(self, peer: int, ahead: int = AHEAD) -> None:
        self.peer, self.sent = peer, 0
        self._ahead, self._number = ahead, 0
        self._under_way: deque[tuple[Any, Tensor]] = deque()

    def send(self, tensor: Tensor) -> None:
        """Begins to send a tensor, which is not to be changed; waits for the oldest one where too many are on their way."""
        tensor = tensor.contiguous()
        try:
            while len(self._under_way) >= self._ahead:
                self._under_way.popleft()[0].wait()
            self._under_way.append((dist.isend(tensor, self.peer, tag=self._number), tensor))
        except RuntimeError as error:
            raise Lost([self.peer], error) from error
        self._number += 1
        self.sent += tensor.numel() * tensor.element_size()

    def finish(self) -> None:
        """Waits until all are sent."""
        try:
            while self._under_way:
                self._under_way.popleft()[0].wait()
        except RuntimeError as error:
            raise Lost([self.peer], error) from error


class Receiving:
    """The tensors of these shapes and this type that the process `peer` sends, in order; `ahead` are awaited at a time."""

    def __init__(self, peer: int, shapes: Iterable[tuple[int, ...]], dtype: torch.dtype, ahead: int = AHEAD) -> None:
        self.peer, self._dtype, self._number = peer, dtype, 0
        self._shapes: Iterator[tuple[int, ...]] = iter(shapes)
        self._awaited: deque[tuple[Any, Tensor]] = deque()
        for _ in range(ahead):
            self._await()

    def taken(self) -> Tensor:
        """The next tensor, as soon as it is there."""
        work, tensor = self._awaited.popleft()
        try:
            work.wait()
        except RuntimeError as error:
            raise Lost([self.peer], error) from error
        self._await()
        return tensor

    def _await(self) -> None:
        shape = next(self._shapes, None)
        if shape is None:
            return
        tensor = torch.empty(shape, dtype=self._dtype)
        try:
            work = dist.irecv(tensor, self.peer, tag=self._number)
        except RuntimeError as error:
            raise Lost([self.peer], error) from error
        self._awaited.append((work, tensor))
        self._number += 1
