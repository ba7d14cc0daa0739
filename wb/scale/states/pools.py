"""Two places where an optimizer's state is updated, and the link between them.

On a machine with a GPU the slow one is the host and the fast one the GPU, over a stream each way, from pinned memory. In tests
and in benchmarks both are the host, with copies and updates that take as long as they are said to take.

Limits: tried with two pools of the host alone; no GPU was there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Pace:
    """How fast a simulated thing is, in units a second; None is as fast as it is."""

    rate: float | None = None

    def wait(self, units: float, begun: float) -> None:
        """Waits until so many units would be done that were begun at a time of `time.perf_counter`."""
        if self.rate is not None:
            time.sleep(max(0.0, begun + units / self.rate - time.perf_counter()))


@dataclass
class Pool:
    """A device on which parameters are updated, `pace` many a second."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    pace: Pace = field(default_factory=Pace)


class Link:
    """Copies between the slow and the fast pool, a queue each way, in order; `pace` is in bytes a second, each way.

    `moved` counts bytes: to the fast pool, and back.
    """

    def __init__(self, slow: Pool, fast: Pool, pace: Pace | None = None) -> None:
        self.slow, self.fast, self.pace = slow, fast, pace or Pace()
        self.moved = [0, 0]
        self._gpu = fast.device.type == "cuda"
        self._streams: list[torch.cuda.Stream | None] = [None, None]
        self._queues = [ThreadPoolExecutor(1, name) for name in ("wb to fast", "wb to slow")]

    def up(self, tensors: Sequence[Tensor]) -> Future[list[Tensor]]:
        """Copies of tensors on the fast device."""
        return self._queues[0].submit(self._copied, tensors, 0, self.fast.device)

    def down(self, tensors: Sequence[Tensor], into: Sequence[Tensor]) -> Future[None]:
        """Puts tensors of the fast device `into` those of the slow one."""
        return self._queues[1].submit(self._put, tensors, into, 1)

    def up_into(self, tensors: Sequence[Tensor], into: Sequence[Tensor]) -> Future[None]:
        """Puts tensors of the slow device `into` those of the fast one."""
        return self._queues[0].submit(self._put, tensors, into, 0)

    def close(self) -> None:
        """Ends the queues."""
        for queue in self._queues:
            queue.shutdown()

    def _copied(self, tensors: Sequence[Tensor], way: int, device: torch.device) -> list[Tensor]:
        copies = [torch.empty_like(tensor, device=device) for tensor in tensors]
        self._put(tensors, copies, way)
        return copies

    def _put(self, tensors: Sequence[Tensor], into: Sequence[Tensor], way: int) -> None:
        begun = time.perf_counter()
        with torch.no_grad(), self._stream(way):
            for tensor, place in zip(tensors, into, strict=True):
                place.copy_(tensor, non_blocking=self._gpu)
            if self._gpu:
                torch.cuda.current_stream(self.fast.device).synchronize()
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self.moved[way] += size
        self.pace.wait(size, begun)

    def _stream(self, way: int) -> AbstractContextManager[object]:
        """A stream of its own each way; what was computed before is waited for, as it may be what is copied."""
        if not self._gpu:
            return nullcontext()
        stream = self._streams[way] or torch.cuda.Stream(self.fast.device)
        self._streams[way] = stream
        stream.wait_stream(torch.cuda.default_stream(self.fast.device))
        return torch.cuda.stream(stream)
