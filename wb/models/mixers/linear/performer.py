"""Performer attention: FAVOR+, positive orthogonal random features.

Source: Choromanski et al., "Rethinking Attention with Performers", 2021, eq. 4 and 8: weights φ(q)·φ(k), divided by their sum,
estimate those of softmax attention, with φ(x) = exp(P x - ||x||² / 2 - c) + 1e-4, x a query or key times the root of the scale.
P has m rows, orthogonal in blocks and as long as Gaussian ones; c is the largest of P x, over the features of a query and over
the features of all keys, and has no gradient.
Differs: c of the keys is taken for each image and head, where the published PyTorch code takes it over all heads of the whole
batch, so that an output depends on what else is in the batch; that is the `form` "official". Every head has a P of its own, so
that it may keep channels of its own. The factor 1/√m is left out of φ, since it divides out.
Limits: P is drawn once and is not drawn anew in training. The average of unrelated P (fusion) estimates a flatter kernel. Not
causal.
Dropping a feature is another estimate and does not equal masking it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.mixers import Performer
from wb.models.layers.attention import AttentionModule, kernel_product
from wb.models.layers.operator import Context, Symmetry

EPSILON = 1e-4
LEAST = 1e-30  # far below any sum of features


class PerformerAttention(AttentionModule):
    """`φ(q) (φ(k)ᵀ v) / φ(q) Σφ(k)`. Cost: N·D·H·(2K + 2V) + N·H·M·(2K + 2V + 1) multiply-accumulates."""

    projection: nn.Parameter

    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "qk": "rotation",
        "v": "rotation",
        "features": "permutation",
    }

    def __init__(self, record: Performer, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.scale = record.scale
        # The dimensions that the keys' largest exponent is taken over.
        self.together = (0, 1, 2, 3) if record.form == "official" else (2, 3)
        self.holds("projection", "heads", "features", "qk", trained=False)

    @property
    def convex(self) -> bool:
        return True

    @property
    def factors(self) -> Mapping[str, float]:
        return dict.fromkeys(("wq", "bq", "wk", "bk"), math.sqrt(self.record.factor))

    def reset(self) -> None:
        super().reset()
        with torch.no_grad():
            for head in self.projection:
                head.copy_(orthogonal(*head.shape).to(head))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        root = math.sqrt(self.wq.shape[1] ** -0.5 if self.scale is None else self.scale)
        q, k = self.featured(q * root, (3,)), self.featured(k * root, self.together, context.keys)
        norm = q @ k.sum(dim=2, keepdim=True).transpose(-1, -2)  # (B, H, N, 1)
        norm = norm if context.keys is None else norm.clamp(min=LEAST)  # zero where there is padding alone
        return kernel_product(q, k, v, key_value_first=True) / norm

    def featured(self, x: Tensor, over: tuple[int, ...], counts: Tensor | None = None) -> Tensor:
        """φ of scaled queries or keys, the largest exponent taken `over` these dimensions: (B, H, N, K) -> (B, H, N, M).

        Zero at tokens that do not count (B, 1, N, 1); they have no part in the largest exponent.
        """
        scores = x @ self.projection.detach().transpose(-1, -2)
        if counts is not None:
            scores = scores.masked_fill(~counts, torch.finfo(scores.dtype).min)
        largest = scores.detach().amax(dim=over, keepdim=True)
        features = torch.exp(scores - x.square().sum(dim=3, keepdim=True) / 2 - largest) + EPSILON
        return features if counts is None else features * counts


def orthogonal(features: int, channels: int) -> Tensor:
    """Rows (features, channels) that are orthogonal in blocks of `channels`, with the lengths of Gaussian vectors."""
    blocks = [torch.linalg.qr(torch.randn(channels, channels)).Q for _ in range(-(-features // channels))]
    lengths: Tensor = torch.randn(features, channels).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:features] * lengths
