"""Linear attention with a ReLU kernel and its normaliser.

Source: Cai et al., "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction", 2023, eq. 2,
https://arxiv.org/abs/2205.14756.
Differs: of one scale, without the convolutions that aggregate queries, keys and values of neighbours; whichever of the two equal
forms costs less is computed.
"""

from __future__ import annotations

from torch import Tensor

from wb.models.layers.attention import Summed, kernel_product
from wb.models.layers.operator import Context

EPSILON = 1e-15  # of the published code: a row without any positive product is zero


class LinearAttention(Summed):
    """`ReLU(q) (ReLU(k)ᵀ v) / (ReLU(q) Σ ReLU(k) + ε)`."""

    def featured(self, y: Tensor, context: Context) -> Tensor:
        return y.relu()

    def divided(self, y: Tensor, norm: Tensor) -> Tensor:
        return y / (norm + EPSILON)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        if self.layout.causal or context.spread is not None:
            return self.looking_back(q, k, v, context)[0]
        q, k = q.relu(), k.relu()
        k = k if context.keys is None else k * context.keys
        _, queries, values = self.channels
        linear = 2 * queries * values < self.layout.tokens * (queries + values)
        norm = q @ k.sum(dim=2, keepdim=True).transpose(-1, -2)  # (B, H, N, 1)
        return kernel_product(q, k, v, key_value_first=linear) / (norm + EPSILON)
