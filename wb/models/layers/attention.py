"""Projections of all attention variants, with the same names and shapes, so that a supernet shares them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records import Attention
from wb.core.records.attention import Scored
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import join_heads, project


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
        return join_heads(self.mix(q, k, v, context), self.tokens(x))

    def projected(self, x: Tensor, name: str) -> Tensor:
        """The tokens projected by one reader, head by head: (B, N, D) -> (B, H, N, channels)."""
        return project(x, self.kept(name), self.bias(name), self.tokens(x))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """(B, H, N, K), (B, H, N, K), (B, H, N, V) -> (B, H, N, V)."""
        raise NotImplementedError


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
        scale = self.wq.shape[1] ** -0.5 if self.record.scale is None else self.record.scale
        return (q * scale) @ k.transpose(-1, -2)


def kernel_product(q: Tensor, k: Tensor, v: Tensor, *, key_value_first: bool) -> Tensor:
    """`(q kᵀ) v`, or the equal `q (kᵀ v)` with `key_value_first`, where that costs less."""
    if key_value_first:
        return q @ (k.transpose(-1, -2) @ v)
    return (q @ k.transpose(-1, -2)) @ v
