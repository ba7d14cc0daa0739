"""The projections that all attention variants share, by name and by shape, so that a supernet shares them too."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.records import Attention
from wb.models.axes import Axes, read, write
from wb.models.operators._base import Grid, OperatorModule, Symmetry, join_heads, parameter, project, uniform_


class AttentionModule(OperatorModule):
    """Projects to queries, keys and values, lets the subclass `mix` them, and projects back.

    A subclass without `wk` in its `axes` has one projection for both: its queries are the keys.
    """

    axes: ClassVar[dict[str, Axes]] = {
        "wq": (write("heads"), write("qk"), read("embed")),
        "bq": (write("heads"), write("qk")),
        "wk": (write("heads"), write("qk"), read("embed")),
        "bk": (write("heads"), write("qk")),
        "wv": (write("heads"), write("v"), read("embed")),
        "bv": (write("heads"), write("v")),
        "wo": (write("embed"), read("heads"), read("v")),
        "bo": (write("embed"),),
    }
    # A kernel on queries and keys bears permutations only; values are linear from one projection to the other.
    symmetries: ClassVar[dict[str, Symmetry]] = {"heads": "permutation", "qk": "permutation", "v": "rotation"}
    readers: ClassVar[dict[str, str]] = {"wq": "bq", "wk": "bk", "wv": "bv"}
    writers: ClassVar[dict[str, str]] = {"wo": "bo"}

    def __init__(self, record: Attention, embed: int, grid: Grid, device: torch.device | str | None = None) -> None:
        super().__init__()
        heads, qk, v = record.heads, record.qk, record.v
        self.tokens = grid.tokens
        self.wq = parameter(heads, qk, embed, device=device)
        self.bq = parameter(heads, qk, device=device)
        if "wk" in self.axes:
            self.wk = parameter(heads, qk, embed, device=device)
            self.bk = parameter(heads, qk, device=device)
        self.wv = parameter(heads, v, embed, device=device)
        self.bv = parameter(heads, v, device=device)
        self.wo = parameter(embed, heads, v, device=device)
        self.bo = parameter(embed, device=device)

    @property
    def convex(self) -> bool:
        """Whether a token's weights sum to one and, where keys have a projection, do not see what all keys have in common."""
        return False

    @property
    def sizes(self) -> dict[str, int]:
        """The record's widths, read off the parameters."""
        heads, qk, _ = self.wq.shape
        return {"heads": heads, "qk": qk, "v": self.wv.shape[1]}

    def reset(self) -> None:
        for name in self.readers:
            uniform_(getattr(self, name), self.wq.shape[2])
        uniform_(self.wo, self.wo.shape[1] * self.wo.shape[2])
        for bias in (*self.readers.values(), *self.writers.values()):
            nn.init.zeros_(getattr(self, bias))

    def hidden(self, x: Tensor) -> Tensor:
        q = project(x, self.kept("wq"), self.bq)  # (B, H, N, K)
        k = project(x, self.kept("wk"), self.bk) if "wk" in self.axes else q  # (B, H, N, K)
        v = project(x, self.kept("wv"), self.bv)  # (B, H, N, V)
        return join_heads(self.mix(q, k, v))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, K), (B, H, N, K), (B, H, N, V) -> (B, H, N, V)."""
        raise NotImplementedError


def kernel_product(q: Tensor, k: Tensor, v: Tensor, *, key_value_first: bool) -> Tensor:
    """`(q kᵀ) v`, or the same as `q (kᵀ v)` where that costs less."""
    if key_value_first:
        return q @ (k.transpose(-1, -2) @ v)
    return (q @ k.transpose(-1, -2)) @ v
