"""Simplified linear attention of SLAB.

Source: Guo et al., "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch
Normalization", 2024: q = ReLU(W_q x), k = ReLU(W_k x + P), y = (q kᵀ) v / (q Σk + 1e-6) + depthwise convolution of v.
Differs: written from the formula (the authors' code carries no licence); biases on q, k and v, which the shared
projections have anyway.
Limits: the key positions P and the convolution fix the grid, and a class token has no place in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import Sla
from wb.models.layers.attention import AttentionModule, kernel_product
from wb.models.layers.operator import Context, Symmetry
from wb.models.layers.tensors import uniform_

EPSILON = 1e-6


class SimplifiedLinearAttention(AttentionModule):
    """ReLU kernel attention plus a depthwise convolution of the values, whose filters all heads share."""

    position: nn.Parameter
    depthwise: nn.Parameter
    depthwise_bias: nn.Parameter

    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "qk": "permutation", "v": "permutation"}

    def __init__(self, record: Sla, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.holds("position", layout.tokens, "heads", "qk")
        self.holds("depthwise", "v", 1, record.kernel, record.kernel)
        self.holds("depthwise_bias", "v")

    def reset(self) -> None:
        super().reset()
        nn.init.trunc_normal_(self.position, std=0.02)
        uniform_(self.depthwise, self.depthwise.shape[-1] ** 2)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        q = q.relu()
        k = (k + self.position.permute(1, 0, 2)).relu()
        _, queries, values = self.channels
        linear = 2 * queries * values < self.layout.tokens * (queries + values)
        norm = q @ k.sum(dim=2, keepdim=True).transpose(-1, -2)  # (B, H, N, 1)
        return kernel_product(q, k, v, key_value_first=linear) / (norm + EPSILON) + self._convolved(v)

    def _convolved(self, v: Tensor) -> Tensor:
        """The depthwise convolution, each head an image of its own: (B, H, N, V) -> (B, H, N, V)."""
        heads, _, channels = self.channels
        rows, columns = self.layout.shape
        image = v.transpose(2, 3).reshape(-1, channels, rows, columns)  # (B*H, V, rows, columns)
        kernel = self.depthwise.shape[-1]
        image = F.conv2d(image, self.depthwise, self.depthwise_bias, padding=kernel // 2, groups=channels)
        return image.reshape(-1, heads, channels, self.layout.tokens).transpose(2, 3)
