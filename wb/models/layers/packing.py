"""Lines of tokens without their padding: those that count, one behind the other.

Source: Du et al., "EnergonAI: An Inference System for 10-100 Billion Parameter Transformer Models", 2022, section 4.3,
https://arxiv.org/abs/2209.02341: what computes tokens one by one computes no padding, and attention alone sees padded lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from wb.core.errors import BadData
from wb.core.specs import IN_FRONT


def check_behind(counts: Tensor) -> None:
    """Raises `BadData` where a token that does not count stands before one that does: `counts` (B, N) is true at the latter.

    Nothing is checked while a graph is recorded.
    """
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined,no-untyped-call]
    if counts.is_meta or recorded:
        return
    if bool((counts[:, 1:] & ~counts[:, :-1]).any()):
        raise BadData(IN_FRONT)


@dataclass(frozen=True, eq=False)
class Packing:
    """Where T tokens stand in lines (B, N): `mask` (B, N) is true there."""

    mask: Tensor

    @cached_property
    def rows(self) -> Tensor:
        """Their numbers in all lines, one behind the other: (T,)."""
        return self.mask.flatten().nonzero()[:, 0]

    @property
    def places(self) -> Tensor:
        """Their places in their lines: (1, T)."""
        return (self.rows % self.mask.shape[1])[None]

    def packed(self, x: Tensor) -> Tensor:
        """(B, N, F) -> (1, T, F)."""
        return x.flatten(0, 1)[self.rows][None]

    def padded(self, y: Tensor) -> Tensor:
        """(1, T, F) -> (B, N, F), zero at padding."""
        lines = y.new_zeros(self.mask.numel(), y.shape[-1])
        found: Tensor = lines.index_copy_(0, self.rows, y[0]).unflatten(0, self.mask.shape)
        return found

    def headed(self, y: Tensor) -> Tensor:
        """Of heads: (1, H, T, F) -> (B, H, N, F)."""
        heads = y.shape[1]
        padded = self.padded(y.transpose(1, 2).flatten(2))
        return torch.unflatten(padded, 2, (heads, -1)).transpose(1, 2)
