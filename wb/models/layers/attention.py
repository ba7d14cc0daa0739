"""Projections of all attention variants, with the same names and shapes, so that a supernet shares them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records import Attention
from wb.core.records.attention import Scored
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import join_heads, project
from wb.scale.ring.attention import Spread


class AttentionModule(OperatorModule):
    """Projects tokens to queries, keys and values, lets the subclass `mix` them, and projects the result back.

    A subclass that is `shared` has one projection for both: its queries are the keys. One without `bias` has no biases at all,
    one without `qkv_bias` none of queries, keys and values.
    """

    wq: nn.Parameter
    bq: nn.Parameter
    wk: nn.Parameter
    bk: nn.Parameter
    wv: nn.Parameter
    bv: nn.Parameter
    wo: nn.Parameter
    bo: nn.Parameter

    shared: ClassVar[bool] = False
    # A kernel on queries and keys allows only permutations; values pass linearly from one projection to the other.
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "permutation", "v": "rotation"}

    def __init__(
        self,
        record: Attention,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
        *,
        bias: bool = True,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(record, embed, layout, device)
        inner = bias and qkv_bias
        self.reads("wq", "bq" if inner else None, "heads", "qk")
        if not self.shared:
            self.reads("wk", "bk" if inner else None, "heads", "qk")
        self.reads("wv", "bv" if inner else None, "heads", "v")
        self.writes("wo", "bo" if bias else None, "heads", "v")

    @property
    def channels(self) -> tuple[int, int, int]:
        """Heads, channels of a query and of a value, read off the parameters."""
        heads, queries, _ = self.wq.shape
        return heads, queries, self.wv.shape[1]

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        q = self.projected(x, "wq")  # (B, H, N, K)
        k = q if self.shared else self.projected(x, "wk")  # (B, H, N, K)
        v = self.projected(x, "wv")  # (B, H, N, V)
        packing = context.packing
        if packing is None:
            return join_heads(self.mix(q, k, v, context), self.tokens(x))
        q, k, v = (packing.headed(one) for one in (q, k, v))
        return packing.packed(join_heads(self.mix(q, k, v, context)))

    def projected(self, x: Tensor, name: str) -> Tensor:
        """The tokens projected by one reader, head by head: (B, N, D) -> (B, H, N, channels)."""
        return project(x, self.kept(name), self.bias(name), self.tokens(x))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """(B, H, N, K), (B, H, N, K), (B, H, N, V) -> (B, H, N, V)."""
        raise NotImplementedError


class Summed(AttentionModule):
    """Attention whose weights are products of features of queries and keys, each row divided by its sum.

    In causal layouts it keeps sums over the tokens before, as many numbers for any number of them: keys times values, and keys.

    Source: Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention", 2020, section
    3.3, https://arxiv.org/abs/2006.16236.
    Differs: further tokens are computed at once, by their products among themselves and with the sums.
    """

    spreads: ClassVar[bool] = True
    features: ClassVar[int] = 1
    """How many features there are for each channel of a key."""

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """One sum: the last of its columns is that of the keys."""
        heads, queries, values = self.channels
        return {"sum": (heads, self.features * queries, values + 1)}

    def featured(self, y: Tensor, context: Context) -> Tensor:
        """The features of queries or of keys: (B, H, N, K) -> (B, H, N, features · K)."""
        raise NotImplementedError

    def divided(self, y: Tensor, norm: Tensor) -> Tensor:
        """(B, H, N, V) by the sums of the rows, (B, H, N, 1)."""
        raise NotImplementedError

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The sums of the past are added to, without the tokens of padding."""
        q, k, v = (self.projected(x, name) for name in ("wq", "wk", "wv"))
        y, total = self.looking_back(q, k, v, context, past[0])
        return self.written(join_heads(y, self.tokens(x))), (total,)

    def looking_back(
        self, q: Tensor, k: Tensor, v: Tensor, context: Context, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What tokens see of those before them, behind sums of a `past` if there is one; and the sums behind them."""
        q, k = self.featured(q, context), self.featured(k, context)
        k = k if context.keys is None else k * context.keys
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)  # (B, H, N, V + 1)
        if context.spread is not None:
            y, total = self._behind_others(q, k, v, context.spread)
        else:
            y, total = self._behind(q, k, v, past)
        return self.divided(y[..., :-1], y[..., -1:]), total

    def _behind_others(self, q: Tensor, k: Tensor, v: Tensor, spread: Spread) -> tuple[Tensor, Tensor]:
        """The same for two chunks of a line, the rest of which other processes have: the sums of those come in."""
        pairs = list(zip(q.chunk(2, dim=2), k.chunk(2, dim=2), v.chunk(2, dim=2), strict=True))
        before, whole = spread.sums(torch.stack([k.transpose(-1, -2) @ v for _, k, v in pairs]))
        if not self.layout.causal:
            return q @ whole, whole
        found = [self._behind(*chunk, past)[0] for chunk, past in zip(pairs, before, strict=True)]
        return torch.cat(found, dim=2), whole

    def _behind(self, q: Tensor, k: Tensor, v: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sums of values with their weights in the last column, (B, H, N, V + 1), and what is added up behind them."""
        places = torch.arange(self.tokens(q.transpose(1, 2)), device=q.device)
        seen = (places[None, :] <= places[:, None]).to(q)
        y, total = ((q @ k.transpose(-1, -2)) * seen) @ v, k.transpose(-1, -2) @ v
        if past is not None:
            y, total = y + q @ past, total + past
        return y, total


class ScoredAttention(AttentionModule):
    """Attention whose weights are a softmax over the scores of a row, `scale · q kᵀ`."""

    record: Scored
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "rotation", "v": "rotation"}

    @property
    def convex(self) -> bool:
        return True

    @property
    def idle(self) -> tuple[str, ...]:
        return ("bk",) if "bk" in self.axes else ()

    @property
    def factors(self) -> Mapping[str, float]:
        root = abs(self.record.factor) ** 0.5
        signed = math.copysign(root, self.record.factor)
        shared = {"wq": signed, "bq": signed, "wk": root, "bk": root}
        return {name: factor for name, factor in shared.items() if name in self.axes}

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """`scale · q kᵀ`: (B, H, N, K), (B, H, N, K) -> (B, H, N, N)."""
        return self.scaled(q) @ k.transpose(-1, -2)

    def scaled(self, q: Tensor) -> Tensor:
        """Queries (B, H, N, K) times the scale."""
        return q * (self.wq.shape[1] ** -0.5 if self.record.scale is None else self.record.scale)


def kernel_product(q: Tensor, k: Tensor, v: Tensor, *, key_value_first: bool) -> Tensor:
    """`(q kᵀ) v`, or the equal `q (kᵀ v)` with `key_value_first`, where that costs less."""
    if key_value_first:
        return q @ (k.transpose(-1, -2) @ v)
    return (q @ k.transpose(-1, -2)) @ v
