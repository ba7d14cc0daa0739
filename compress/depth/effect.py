"""Distances between two outputs, and running means and maxima of them over batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.specs import NO_LABEL
from wb.models.layers.planes import as_tokens

NOTHING = 1e-6  # share of the stream: a smaller contribution is float32 rounding


class Tally:
    """Running sum, weight and maximum of values by key; values arrive in batches and are not stored."""

    def __init__(self) -> None:
        self._sums: dict[Hashable, float] = defaultdict(float)
        self._counts: dict[Hashable, float] = defaultdict(float)
        self._most: dict[Hashable, float] = {}

    def add(self, values: Tensor, *key: Hashable, heavy: Tensor | None = None) -> None:
        """Adds `values` of any shape, each as `heavy` in the mean as a tensor of their shape says; by default they are equal."""
        values = values.float().cpu().double()  # not every device knows float64
        weights = torch.ones_like(values) if heavy is None else heavy.cpu().double()
        self._sums[key] += float((values * weights).sum())
        self._counts[key] += float(weights.sum())
        self._most[key] = max(self._most.get(key, float("-inf")), float(values.max()))

    def mean(self, *key: Hashable) -> float:
        """The mean of all values added under `key`."""
        return self._sums[key] / self._counts[key]

    def most(self, *key: Hashable) -> float:
        """The largest of all values added under `key`."""
        return self._most[key]


def tokens(labels: Tensor) -> Tensor:
    """How many tokens of each example are foreseen, (B, N) -> (B,); of a classifier it is one answer, (B,) -> (B,)."""
    return (labels != NO_LABEL).float().reshape(len(labels), -1).sum(dim=1)


def overlap(logits: Tensor, other: Tensor, k: int) -> Tensor:
    """Share of the `k` likeliest classes that both have: (B, classes) twice -> (B,), or (B, N, vocabulary) twice -> (B, N)."""
    first, second = logits.topk(k, dim=-1).indices, other.topk(k, dim=-1).indices
    return (first[..., :, None] == second[..., None, :]).any(dim=-1).float().mean(dim=-1)


def relative(part: Tensor, whole: Tensor) -> Tensor:
    """‖part‖ / ‖whole‖ token by token: (B, N, D) or maps, twice -> (B, N); 0 where `whole` is zero."""
    return _ratio(_length(part), _length(whole))


def relative_change(write: Tensor, changed: Tensor, h: Tensor) -> Tensor:
    """‖c − c̄‖ / ‖c‖ token by token: (B, N, D) or maps, each -> (B, N).

    0 where the contribution `write` is only rounding beside the stream `h` that it is added to.
    """
    size = _length(write)
    return _ratio(_length(write - changed), torch.where(size > NOTHING * _length(h), size, 0.0))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between tokens: (B, N, D) or maps, twice -> (B, N), within -1 to 1; 0 where one of them is zero."""
    return F.cosine_similarity(as_tokens(a), as_tokens(b), dim=-1).clamp(-1, 1)


def _length(x: Tensor) -> Tensor:
    """The norm of every token: (B, N, D) or a map -> (B, N)."""
    length: Tensor = as_tokens(x).norm(dim=-1)
    return length


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    there = denominator > 0
    return torch.where(there, numerator / torch.where(there, denominator, 1.0), 0.0)
