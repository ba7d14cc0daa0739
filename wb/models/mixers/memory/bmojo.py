"""Attention within a window, and to a fading memory of what was before it.

Source: Zancato et al., "B'MOJO: Hybrid State Space Realizations of Foundation Models with Eidetic and Fading Memory", 2024,
https://arxiv.org/abs/2407.06324, in the published form B'MOJO-F: token i attends to the tokens x_j with i - w < j <= i and to
what a state space model gave at the tokens j with i - 2w < j <= i - w, in one softmax; that has projections of its own.
Differs: the model is the selective scan of `s6.py`, whose output map the projections take over. No rotary positions and no
grouped queries: positions are the network's. Computed in blocks as long as the window.
Limits: the eidetic memory of the paper, of tokens that surprised, is in no published code and not here. Half of the products of a
block are of tokens out of reach and left out. As slow in graphs as the scan.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Bmojo as Record
from wb.models.axes import read
from wb.models.layers.operator import Context, Symmetry
from wb.models.layers.tensors import UNSEEN, constant, join_heads, project
from wb.models.mixers.memory.s6 import Scanning


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

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("wq", "bq", "heads", "qk")
        self.reads("wk", "bk", "heads", "qk")
        self.reads("wv", "bv", "heads", "v")
        self.between("memory_key", "heads", "qk", read("inner"))
        self.between("memory_value", "heads", "v", read("inner"))
        self.writes("wo", "bo", "heads", "v")
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

    @property
    def factors(self) -> Mapping[str, float]:
        """The scale goes to the queries, which meet two kinds of keys."""
        return dict.fromkeys(("wq", "bq"), self.record.factor)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*V)."""
        q, k, v = (project(x, self.kept(name), self.bias(name)) for name in ("wq", "wk", "wv"))
        memory = self.remembered(x)
        return join_heads(
            self.mix(q, k, v, *(project(memory, self.kept(f"memory_{name}"), None) for name in ("key", "value")))
        )

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
