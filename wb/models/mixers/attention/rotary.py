"""Softmax attention with rotary positions and grouped queries.

Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, eq. 34,
https://arxiv.org/abs/2104.09864; Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", 2023,
https://arxiv.org/abs/2305.13245; norms of queries and keys of Henry et al., "Query-Key Normalization for Transformers", 2020,
as Qwen3 has them: root mean square, a gain, before the turn.
Differs: a plane is the pair of channels j and j + K/2 of a head, as in the networks of Hugging Face. Frequencies are constants
with axes, so that a plane keeps its own when others go. Rows of a group are folded into those of one product, so that keys and
values are not copied.
Limits: frequencies are those of the widest head that a network was cut out of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.attention import Rotary as Record
from wb.core.specs import PAST
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.turning import frequencies_, table_of, turn, turns
from wb.scale.ring.blocks import Rule


class RotaryAttention(OperatorModule):
    """`softmax(scale · R(q) R(k)ᵀ) v`, R turning each plane by its frequency times the place of the token."""

    spreads: ClassVar[bool] = True
    packs: ClassVar[bool] = True
    divides: ClassVar[str | None] = "heads"
    record: Record
    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "queries": "permutation",
        "qk": "permutation",
        "v": "rotation",
    }
    gq: nn.Parameter
    gk: nn.Parameter
    gv: nn.Parameter
    go: nn.Parameter
    q_gain: nn.Parameter
    k_gain: nn.Parameter
    frequencies: nn.Parameter
    table: Tensor | None

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        bias = record.qkv_bias
        self.reads("gq", "gbq" if bias else None, "heads", "queries", 2, "qk")
        self.reads("gk", "gbk" if bias else None, "heads", 2, "qk")
        self.reads("gv", "gbv" if bias else None, "heads", "v")
        if record.rms:
            self.holds("q_gain", "heads", "queries", 2, "qk")
            self.holds("k_gain", "heads", 2, "qk")
        self.holds("frequencies", "heads", "qk", trained=False)
        self.writes("go", None, "heads", "queries", "v")
        self.table = None
        self.averaged = ("qk",) if record.rms else ()

    def reset(self) -> None:
        """Frequencies from 1 down to nearly 1 / base, the same for all heads; gains one."""
        super().reset()
        frequencies_(self.frequencies, self.record.base)
        with torch.no_grad():
            if self.record.rms:
                self.q_gain.fill_(1.0)
                self.k_gain.fill_(1.0)

    def settle(self) -> None:
        """Also computes the turns of all places once, which a graph then looks up."""
        super().settle()
        self.table = table_of(self.frequencies, self.layout.tokens)

    @property
    def convex(self) -> bool:
        return True

    @property
    def idle(self) -> tuple[str, ...]:
        return ()

    @property
    def factors(self) -> Mapping[str, float]:
        root = abs(self.record.factor) ** 0.5
        signed = math.copysign(root, self.record.factor)
        if self.record.rms:
            return {"q_gain": signed, "k_gain": root}
        shared = {"gq": signed, "gbq": signed, "gk": root, "gbk": root}
        return {name: factor for name, factor in shared.items() if name in self.axes}

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """Keys, turned already, and values."""
        heads, _, planes = self.gk.shape[:3]
        return {"key": (heads, PAST, 2 * planes), "value": (heads, PAST, self.gv.shape[1])}

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        packing = context.packing
        if packing is None:
            return self._mixed(*self._projected(x, context), context)
        q, k, v = self._projected(x, context._replace(places=packing.places))
        q = packing.headed(q.flatten(1, 2)).unflatten(1, q.shape[1:3])
        return packing.packed(self._mixed(q, packing.headed(k), packing.headed(v), context))

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Keys and values are appended to those of the past."""
        q, k, v = self._projected(x, context)
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        return self.written(self._mixed(q, k, v, context)), (k, v)

    def _projected(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, Q, N, 2K) and keys (B, H, N, 2K), both turned and the former scaled, and values (B, H, N, V)."""
        heads, queries, _, planes = self.gq.shape[:4]
        tokens = self.tokens(x)
        own = self._turned(tokens, context)  # cosines and sines, (B or 1, H or 1, N, K)
        q = self._read(x, "gq").reshape(-1, tokens, heads, queries, 2, planes).permute(0, 2, 3, 1, 4, 5)
        k = self._read(x, "gk").reshape(-1, tokens, heads, 2, planes).permute(0, 2, 1, 3, 4)
        v = self._read(x, "gv").reshape(-1, tokens, heads, self.gv.shape[1]).transpose(1, 2)
        if self.record.rms:
            q, k = self._normed(q, self.q_gain[:, :, None]), self._normed(k, self.k_gain[:, None])
        factor = (2 * planes) ** -0.5 if self.record.scale is None else self.record.scale
        grouped = tuple(part[:, :, None] for part in own)
        return turn(q * factor, *grouped), turn(k, *own), v

    def _read(self, x: Tensor, name: str) -> Tensor:
        bias = self.bias(name)
        return F.linear(x, self.kept(name).flatten(0, -2), None if bias is None else bias.flatten())

    def _normed(self, y: Tensor, gain: Tensor) -> Tensor:
        """(..., 2, K) over its root mean square, times a gain."""
        mean = y.square().mean(dim=(-2, -1), keepdim=True)
        return y / (mean + self.record.eps).sqrt() * gain

    def _turned(self, tokens: int, context: Context) -> tuple[Tensor, Tensor]:
        if self.table is not None:
            rows = self.table[:, :tokens] if context.places is None else self._looked_up(self.table, context.places)
            found = rows[None] if context.places is None else rows
        else:
            weights = self.frequencies.detach()
            places = torch.arange(tokens, device=weights.device)[None] if context.places is None else context.places
            found = turns(places, weights)
        return found[..., 0, :], found[..., 1, :]

    def _looked_up(self, table: Tensor, places: Tensor) -> Tensor:
        """(H or 1, length, 2, K) at places (B, N) -> (B, H or 1, N, 2, K)."""
        return table[:, places].transpose(0, 1)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """(B, H, Q, N, 2K), (B, H, T, 2K), (B, H, T, V) -> (B, N, H·Q·V)."""
        heads, queries, values = self.gq.shape[0], self.gq.shape[1], self.gv.shape[1]
        tokens = q.shape[3]
        if context.spread is not None:
            rule = Rule(self.layout.causal)
            y = context.spread.attend(q.flatten(2, 3), k, v, rule, context.mask)
            return self._together(y.reshape(-1, heads, queries, tokens, values), tokens)
        seen = k.shape[2]
        scores = q.flatten(2, 3) @ k.transpose(-1, -2)  # (B, H, Q·N, T)
        if context.visible is not None:
            hidden = ~context.visible[:, :, None]  # (B, 1, 1, N, T)
            smallest = torch.finfo(scores.dtype).min
            scores = scores.reshape(-1, heads, queries, tokens, seen).masked_fill(hidden, smallest).flatten(2, 3)
        return self._together((scores.softmax(dim=-1) @ v).reshape(-1, heads, queries, tokens, values), tokens)

    def _together(self, y: Tensor, tokens: int) -> Tensor:
        """(B, H, Q, N, V) -> (B, N, H·Q·V)."""
        heads, queries, values = self.gq.shape[0], self.gq.shape[1], self.gv.shape[1]
        return y.permute(0, 3, 1, 2, 4).reshape(-1, tokens, heads * queries * values)
