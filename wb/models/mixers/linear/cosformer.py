"""cosFormer attention.

Source: Qin et al., "cosFormer: Rethinking Softmax in Attention", 2022, eq. 10: scores ReLU(qᵢ)·ReLU(kⱼ)·cos(π(i−j)/2M),
rows divided by their sum, no scale.
Differs: whichever of the two equal forms costs less is computed, the re-weighted square or the split into sine and cosine.
Limits: a class token counts as position 0. M is the number of tokens, of texts that of the longest, so that
another one is another function.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Cosformer
from wb.models.layers.attention import Summed, kernel_product
from wb.models.layers.operator import Context
from wb.models.layers.tensors import constant

EPSILON = 1e-6  # the official code clamps the row sums here


class CosformerAttention(Summed):
    """ReLU kernel, re-weighted by the cosine of the distance."""

    features: ClassVar[int] = 2

    def __init__(self, record: Cosformer, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        # No buffer: float64 cannot follow the module to every device.
        self.angle = torch.arange(layout.tokens, dtype=torch.float64) * (math.pi / 2 / layout.tokens)

    def featured(self, y: Tensor, context: Context) -> Tensor:
        """Behind a past, tokens are as far on as their places say; padding, whose keys do not count, has any place."""
        y, angle = y.relu(), self.angle.to(y.dtype).to(y.device)
        found = angle[: y.shape[2]] if context.places is None else angle[context.places][:, None]  # (N) or (B, 1, N)
        return torch.cat([y * found.sin()[..., None], y * found.cos()[..., None]], dim=-1)

    def divided(self, y: Tensor, norm: Tensor) -> Tensor:
        return y / norm.clamp(min=EPSILON)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        if self.layout.causal or context.spread is not None:
            return self.looking_back(q, k, v, context)[0]
        q, k = q.relu(), k.relu()
        k = k if context.keys is None else k * context.keys
        angle = self.angle[: q.shape[2]] if self.layout.dynamic else self.angle
        _, queries, values = self.channels
        square = self.layout.tokens * (queries + values)
        linear = 4 * queries * values + 2 * queries
        if square <= linear:
            cosine = constant(torch.cos(angle[:, None] - angle[None, :]), v)  # (N, N)
            scores = (q @ k.transpose(-1, -2)) * cosine
            return (scores @ v) / scores.sum(-1, keepdim=True).clamp(min=EPSILON)
        sine, cosine = constant(angle.sin()[:, None], v), constant(angle.cos()[:, None], v)  # (N, 1)
        q = torch.cat([q * sine, q * cosine], dim=-1)  # (B, H, N, 2K)
        k = torch.cat([k * sine, k * cosine], dim=-1)
        norm = q @ k.sum(dim=2, keepdim=True).transpose(-1, -2)  # (B, H, N, 1)
        return kernel_product(q, k, v, key_value_first=True) / norm.clamp(min=EPSILON)
