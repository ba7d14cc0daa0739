"""Attention within a window, and to a fading memory of what was before it.

Source: Zancato et al., "B'MOJO: Hybrid State Space Realizations of Foundation Models with Eidetic and Fading Memory", 2024,
https://arxiv.org/abs/2407.06324, in the published form B'MOJO-F: token i attends to the tokens x_j with i - w < j <= i and to
what a state space model gave at the tokens j with i - 2w < j <= i - w, in one softmax; that has projections of its own.
Differs: the model is the selective scan of `s6.py`, whose output map the projections take over. Rotary positions only with
`rotary`, as published the places of a memory's keys are those of the tokens that it was at; a plane is the pair of channels j
and j + K. No grouped queries. Computed in blocks as long as the window.
Limits: the eidetic memory of the paper, of tokens that surprised, is in no published code and not here. Half of the products of a
block are of tokens out of reach and left out. As slow in graphs as the scan.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Bmojo as Record
from wb.models.axes import read
from wb.models.layers.operator import Context, Symmetry
from wb.models.layers.tensors import UNSEEN, constant, join_heads, project
from wb.models.layers.turning import frequencies_, table_of, turn, turns
from wb.models.mixers.memory.s6 import Scanning

BASE = 10_000.0  # 1 / the lowest frequency of rotary positions, nearly


class FadingMemoryAttention(Scanning):
    """A softmax over 4W keys. Cost: N*D*H*(2K + 2V) + N*E*H*(K + V) + 4*H*N*W*(K + V), and of the scan."""

    record: Record
    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "qk": "rotation",
        "v": "rotation",
        "inner": "permutation",
        "state": "permutation",
    }
    frequencies: nn.Parameter
    table: Tensor | None

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        # Names of their own: in shared weights others have maps of another shape by the names of those that do not turn.
        self.queries, self.keys, self.recalling = (
            ("tq", "tk", "memory_turned") if record.rotary else ("wq", "wk", "memory_key")
        )
        self.planes: tuple[int | str, ...] = (2, "qk") if record.rotary else ("qk",)
        self.reads(self.queries, "tbq" if record.rotary else "bq", "heads", *self.planes)
        self.reads(self.keys, "tbk" if record.rotary else "bk", "heads", *self.planes)
        self.reads("wv", "bv", "heads", "v")
        self.between(self.recalling, "heads", *self.planes, read("inner"))
        self.between("memory_value", "heads", "v", read("inner"))
        if record.rotary:
            self.holds("frequencies", "heads", "qk", trained=False)
            self.symmetries = {**self.symmetries, "qk": "permutation"}
        self.writes("wo", "bo", "heads", "v")
        self.table = None
        self.length = min(record.window, layout.tokens)
        self.blocks = -(-layout.tokens // self.length)
        # Places of queries, and of the keys of a block: of the block before and itself, and of the memory of two blocks before.
        first = torch.arange(self.blocks)[:, None, None] * self.length
        places = first + torch.arange(self.length)[None, :, None]
        own = first - self.length + torch.arange(2 * self.length)
        memory = own - self.length
        near = (own >= 0) & (own <= places) & (own > places - record.window)
        far = (memory >= 0) & (memory <= places - record.window) & (memory > places - 2 * record.window)
        self.unseen = torch.cat([~near, ~far], dim=2) * UNSEEN  # (blocks, W, 4W)

    def reset(self) -> None:
        super().reset()
        if self.record.rotary:
            frequencies_(self.frequencies, BASE)

    def settle(self) -> None:
        """Also computes the turns of all places once, which a graph then looks up."""
        super().settle()
        if self.record.rotary:
            self.table = table_of(self.frequencies, self.layout.tokens)

    @property
    def factors(self) -> Mapping[str, float]:
        """The scale goes to the queries, which meet two kinds of keys."""
        return dict.fromkeys((self.queries, str(self.readers[self.queries])), self.record.factor)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*V)."""
        memory = self.remembered(x)
        q, k = self._turned(x, self.queries), self._turned(x, self.keys)
        v = project(x, self.kept("wv"), self.bias("wv"))
        value = project(memory, self.kept("memory_value"), None)
        return join_heads(self.mix(q, k, v, self._turned(memory, self.recalling), value))

    def _turned(self, x: Tensor, name: str) -> Tensor:
        """What queries or keys are, of tokens or of the memory (B, N, ...): (B, H, N, channels), turned if they are to be."""
        weight, bias = self.kept(name), self.bias(name) if name in self.readers else None
        if not self.record.rotary:
            return project(x, weight, bias)
        heads, _, planes, _ = weight.shape
        y = project(x, weight.flatten(1, 2), None if bias is None else bias.flatten(1, 2))
        places = torch.arange(self.layout.tokens, device=x.device)
        own = turns(places, self.frequencies.detach()) if self.table is None else self.table  # (H or 1, N, 2, K)
        return turn(y.reshape(-1, heads, self.layout.tokens, 2, planes), own[..., 0, :], own[..., 1, :])

    def mix(self, q: Tensor, k: Tensor, v: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries, keys and values of tokens (B, H, N, channels), then keys and values of the memory: -> (B, H, N, V)."""
        keys, values = self._seen(k, key), self._seen(v, value)
        scores = self._cut(q * self.record.factor) @ keys.transpose(-1, -2)  # (B, H, blocks, W, 4W)
        y = (scores + constant(self.unseen, q)).softmax(dim=-1) @ values
        return y.flatten(2, 3)[:, :, : self.layout.tokens]

    def _seen(self, own: Tensor, memory: Tensor) -> Tensor:
        """What the tokens of every block see: (B, H, N, C), (B, H, N, C) -> (B, H, blocks, 4W, C)."""
        own, memory = self._cut(own), self._cut(memory)
        return torch.cat([_before(own, 1), own, _before(memory, 2), _before(memory, 1)], dim=3)

    def _cut(self, y: Tensor) -> Tensor:
        """(B, H, N, C) -> (B, H, blocks, W, C), the last block filled up with zeros."""
        heads, channels = int(y.shape[1]), int(y.shape[3])
        if missing := self.blocks * self.length - self.layout.tokens:
            y = torch.cat([y, torch.zeros_like(y[:, :, :missing])], dim=2)
        return y.reshape(-1, heads, self.blocks, self.length, channels)


def _before(blocks: Tensor, by: int) -> Tensor:
    """In the place of every block the one so many before it, zeros where there is none: (B, H, blocks, W, C)."""
    count = int(blocks.shape[2])
    nothing = torch.zeros_like(blocks[:, :, :1]).expand(-1, -1, by, -1, -1)
    return torch.cat([nothing, blocks], dim=2)[:, :, :count]
