"""EcoFormer's kernelized-hash attention: queries, which are also the keys, become codes of signs.

Source: Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity", 2022, eq. 5-8. One projection, normalised to
length one per head: u = W x / ||W x||. For m anchors a_j, κ_j = exp(-||u - a_j||² / 2σ) - μ_j, with σ the mean squared
distance over all tokens and anchors; the code is H = sign(A κ), p signs. With φ(q)·φ(k) = H_i·H_j + p + 1, always positive,

    y_i = Σ_j (p + 1 + H_i·H_j) v_j / Σ_j (p + 1 + H_i·H_j)

computed as H_i (Hᵀ V), so that it is linear in the tokens; both products are additions and subtractions. `official` has the
numerator of the published code, H_i (Hᵀ V) + (p + 1) v_i, which is not the paper's: its weights do not sum to one.
Differs: distances are 1 + ||a||² - 2 u·a, by a matrix product instead of a broadcast difference. The gradient of the sign is
that of the identity where |A κ| <= 1, as in the published code. Anchors, μ and A get no gradient: the pass `HashAttention`
learns them.
Limits: not causal. σ is taken over all tokens of the image, so that padding would change every code; there is none here. A sum
A κ close to zero may get another sign in a runtime that rounds differently, and then the logits of that image differ by far
more than rounding. Dropping a bit changes p and dropping an anchor changes σ, so that neither equals masking; for another
number of either, learn them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import Hash
from wb.models.axes import read
from wb.models.layers.attention import AttentionModule
from wb.models.layers.operator import Context, Symmetry


class HashAttention(AttentionModule):
    """Attention between codes of `bits` signs. Cost: N·D·H·(K + 2V) + N·H·M·(K + P) + N·H·P·(2V + 1), the last additions."""

    anchors: nn.Parameter
    mean: nn.Parameter
    hash: nn.Parameter

    shared: ClassVar[bool] = True
    jumps: ClassVar[bool] = True
    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "qk": "rotation",
        "v": "rotation",
        "bits": "permutation",
        "anchors": "permutation",
    }

    def __init__(self, record: Hash, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.form = record.form
        self.holds("anchors", "heads", "anchors", "qk", trained=False)
        self.holds("mean", "heads", "anchors", trained=False)
        self.holds("hash", "heads", "bits", read("anchors"), trained=False)

    @property
    def convex(self) -> bool:
        return self.form == "kernel"

    @property
    def additions(self) -> int:
        heads, bits, _ = self.hash.shape
        return self.layout.tokens * heads * bits * (2 * self.wv.shape[1] + 1)

    def reset(self) -> None:
        """Random anchors on the unit sphere, kernel means over random tokens, and random hyperplanes."""
        super().reset()
        with torch.no_grad():
            self.anchors.copy_(F.normalize(torch.randn_like(self.anchors), dim=-1))
            tokens = F.normalize(torch.randn_like(self.anchors), dim=-1)
            self.mean.copy_(kernel(tokens[None], self.anchors)[0].mean(dim=1))
        nn.init.normal_(self.hash)  # kernel values spread by some 0.2, so a sum of 25 of them spreads by one

    def mix(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        del k  # the queries
        codes = self.codes(q)  # (B, H, N, P)
        bits, tokens = self.hash.shape[1], self.layout.tokens
        norm = codes @ codes.sum(dim=2, keepdim=True).transpose(-1, -2) + tokens * (bits + 1)  # (B, H, N, 1)
        common = v.sum(dim=2, keepdim=True) if self.form == "kernel" else v
        return (codes @ (codes.transpose(-1, -2) @ v) + (bits + 1) * common) / norm

    def codes(self, q: Tensor) -> Tensor:
        """The signs of projected tokens: (B, H, N, K) -> (B, H, N, P), each 1 or -1."""
        anchors, mean, planes = (weight.detach() for weight in (self.anchors, self.mean, self.hash))
        seen = kernel(F.normalize(q, dim=-1), anchors) - mean[:, None, :]
        return sign(seen @ planes.transpose(-1, -2))


def kernel(u: Tensor, anchors: Tensor) -> Tensor:
    """exp(-||u - a||² / 2σ) of unit vectors u (B, H, N, K) and anchors (H, M, K), σ the mean per image and head: (B, H, N, M)."""
    squares = anchors.square().sum(dim=-1)[:, None, :] + 1
    distances = squares - 2 * (u @ anchors.transpose(-1, -2))
    return torch.exp(distances / (-2 * distances.mean(dim=(2, 3), keepdim=True)))


def sign(x: Tensor) -> Tensor:
    """1 where x > 0, else -1; straight-through gradient: that of x where |x| <= 1, else zero."""
    signs = torch.where(x > 0, 1.0, -1.0).to(x)
    if not x.requires_grad:
        return signs
    through = x.clamp(-1, 1)
    return signs + (through - through.detach())  # the value stays, the gradient is that of `through`
