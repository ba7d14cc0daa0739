"""TokenFormer's attention between tokens and parameters, in the place of a feed-forward.

Source: Wang et al., "TokenFormer: Rethinking Transformer Scaling with Tokenized Model Parameters", 2025, eq. 5 and 6,
https://arxiv.org/abs/2410.23168: f(x K^T * t / |x K^T|) V with f the GELU and t the root of the number of keys.
Differs: the published code's t grows with the keys, so that keys of zeros change the function (they do not in the paper); with a
`length` of its own t stays, and they are exact. Scores that are all zero give zero, not NaN. The form whose weights are a softmax
is left out.
Limits: the length is over all keys, so that without one of them the weights of the others are others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import Pattention as Record
from wb.models.layers.operator import Context, OperatorModule, Symmetry


class Pattention(OperatorModule):
    """`f(keys x) values`, keys (M, D) and values (D, M) shaped as the two layers of a perceptron without biases."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    averaged: tuple[str, ...] = ("mlp",)
    record: Record

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("keys", None, "mlp")
        self.writes("values", None, "mlp")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        scores = F.linear(x, self.kept("keys"))  # (B, N, M)
        if self.record.form == "gelu_l2_norm":
            return self._scaled(F.gelu(scores))
        return F.gelu(self._scaled(scores))

    def _scaled(self, y: Tensor) -> Tensor:
        length = self.record.length or math.sqrt(y.shape[-1])
        return F.normalize(y, dim=-1) * length
