"""A pool of weights: those of some blocks stay, those of the others are read from the file whenever their block is computed.

Source: Du et al., "EnergonAI", 2022, section 4.4, https://arxiv.org/abs/2209.02341: a pool of peers' memory.
Differs: what lies behind the pool is the model's file. Two buffers take turns: one block is computed while the next is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wb.core.errors import BadOption
from wb.models.network import Network
from wb.models.staged.shares import Share
from wb.models.staged.spans import Span
from wb.models.staged.stored import Stored

SLOTS = 2


class Pool:
    """The weights of a part of a network, which is on `meta` before; those of its blocks within `resident` bytes, None: all.

    `held` is how many bytes of weights are in memory at a time, `read` how many bytes of weights were read so far, both counted.

    Raises:
        BadArtefact: the file cannot be read.
        BadOption: `resident` has no room for what has to be there at once.
    """

    def __init__(
        self,
        network: Network,
        span: Span,
        stored: Stored,
        share: Share,
        resident: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._network, self._stored, self._share, self._dtype = network, stored, share, dtype
        owned = [name for name, _ in network.named_parameters() if span.owns(network, name)]
        self._blocks = [[n for n in owned if n.startswith(f"stages.{i}.{j}.")] for i, j in span.blocks]
        within = {name for names in self._blocks for name in names}
        ends = [name for name in owned if name not in within]
        sizes = [self._bytes(names) for names in self._blocks]
        kept = _kept(sizes, self._bytes(ends), resident)
        self.streamed = tuple(range(kept, len(sizes)))
        slot = max((sizes[i] for i in self.streamed), default=0)
        self.held = self._bytes(ends) + sum(sizes[:kept]) + SLOTS * slot
        self.read = 0
        for names in (ends, *self._blocks[:kept]):
            self._place(self._loaded(names, None))
        self._slots = [torch.empty(slot // dtype.itemsize, dtype=dtype) for _ in range(SLOTS if slot else 0)]
        self._turn = 0
        self._reader = ThreadPoolExecutor(1) if slot else None
        self._coming: dict[int, Future[dict[str, Tensor]]] = {}

    @contextmanager
    def at(self, block: int) -> Iterator[None]:
        """Within, the weights of a block of the part are there; those of the next one are read meanwhile."""
        if block in self.streamed:
            if block not in self._coming:
                self._fetch(block)
            self._place(self._coming.pop(block).result())
            after = self.streamed.index(block) + 1
            self._fetch(self.streamed[after % len(self.streamed)])
        yield

    def close(self) -> None:
        """Ends the reading ahead."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def _fetch(self, block: int) -> None:
        assert self._reader is not None
        slot, self._turn = self._slots[self._turn], (self._turn + 1) % SLOTS
        self._coming[block] = self._reader.submit(self._loaded, self._blocks[block], slot)

    def _loaded(self, names: Sequence[str], slot: Tensor | None) -> dict[str, Tensor]:
        """Weights in a slot, or each in memory of its own."""
        found, at = dict[str, Tensor](), 0
        for name, weight in self._stored.read(names, self._share):
            there = torch.empty(weight.shape, dtype=self._dtype)
            if slot is not None:
                there = slot[at : at + weight.numel()].view(weight.shape)
                at += weight.numel()
            found[name] = there.copy_(weight)
        self.read += self._bytes(names)
        return found

    def _place(self, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            place, _, local = name.rpartition(".")
            self._network.get_submodule(place).register_parameter(local, nn.Parameter(weight, requires_grad=False))

    def _bytes(self, names: Sequence[str]) -> int:
        return sum(self._network.get_parameter(name).numel() for name in names) * self._dtype.itemsize


def _kept(sizes: Sequence[int], ends: int, resident: int | None) -> int:
    """How many blocks stay in memory, so that the others fit too, by turns."""
    if resident is None or ends + sum(sizes) <= resident:
        return len(sizes)
    least = ends + min(SLOTS * max(sizes, default=0), sum(sizes))
    if resident < least:
        raise BadOption(
            f"--resident {resident:,} has no room for two blocks and the ends of this part, {least:,} bytes; give that "
            "or more, or more stages"
        )
    return next(
        kept
        for kept in range(len(sizes) - 1, -1, -1)
        if ends + sum(sizes[:kept]) + SLOTS * max(sizes[kept:]) <= resident
    )
