"""Softmax attention block by block, with the logarithm of each row's sum, in one process: forwards, merged, and backwards.

With S = q kᵀ, of a block of keys l_j = log Σ exp S and o_j = exp(S - l_j) v. Two blocks merge into l = log(exp l_i + exp l_j) and
o = o_i exp(l_i - l) + o_j exp(l_j - l). Backwards, with D the row sums of do ∘ o and P = exp(S - l) for any block:
dv = Pᵀ do, dS = P ∘ (do vᵀ - D), dq = Σ dS k, dk = dSᵀ q.

Source: Dao et al., "FlashAttention", 2022, https://arxiv.org/abs/2205.14135, section 3 and appendix B.
Differs: queries have their scale already. Queries are taken in pieces as well, so that no square of a block is held. A row that
sees nothing gives zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 512  # queries whose scores are held at once


@dataclass(frozen=True)
class Rule:
    """Which tokens see which: those before them and themselves alone if it is `causal`, none farther than `reach`."""

    causal: bool = False
    reach: int | None = None

    def seen(self, rows: Tensor, columns: Tensor, counts: Tensor | None) -> Tensor | bool | None:
        """Which keys at places `columns` (N) queries at `rows` (M) see: (M, N), or (B, 1, M, N) if `counts` (B, N) says which
        keys count; True for all of them, None for none."""
        if (self.causal and columns.min() > rows.max()) or (
            self.reach is not None
            and (columns.min() - rows.max() > self.reach or rows.min() - columns.max() > self.reach)
        ):
            return None
        seen: Tensor | None = None
        if self.causal and columns.max() > rows.min():
            seen = columns[None, :] <= rows[:, None]
        if self.reach is not None:
            near = (columns[None, :] - rows[:, None]).abs() <= self.reach
            seen = near if seen is None else seen & near
        if counts is not None:
            seen = counts[:, None, None, :] if seen is None else seen & counts[:, None, None, :]
        return True if seen is None else seen


class Keys(NamedTuple):
    """A block of keys (B, H, N, K) and values (B, H, N, V), at `places` (N); `counts` (B, N) says which count, None for all."""

    k: Tensor
    v: Tensor
    places: Tensor
    counts: Tensor | None = None

    def chunks(self) -> Iterator[Keys]:
        """Runs of neighbouring tokens: what is out of sight in one is left out."""
        for own in runs(self.places):
            counts = None if self.counts is None else self.counts[:, own]
            yield Keys(self.k[:, :, own], self.v[:, :, own], self.places[own], counts)


class Merged(NamedTuple):
    """What queries have seen so far: outputs (B, H, M, V), and logarithms of the sums of their rows (B, H, M)."""

    o: Tensor
    lse: Tensor

    @staticmethod
    def nothing(q: Tensor, values: int) -> Merged:
        """Before the first block."""
        return Merged(q.new_zeros(*q.shape[:3], values), q.new_full(q.shape[:3], -math.inf))


def runs(places: Tensor) -> list[slice]:
    """Where places (N) go on by one, in order."""
    breaks = (places.diff() != 1).nonzero().flatten().add(1).tolist()
    edges = [0, *breaks, len(places)]
    return [slice(start, end) for start, end in pairwise(edges)]


def pieces(places: Tensor, most: int = PIECE) -> list[slice]:
    """Runs of at most so many."""
    return [
        slice(start, min(start + most, run.stop)) for run in runs(places) for start in range(run.start, run.stop, most)
    ]


def _scores(q: Tensor, k: Tensor, seen: Tensor | bool) -> Tensor:
    scores = q @ k.transpose(-1, -2)
    return scores if seen is True else scores.masked_fill_(~torch.as_tensor(seen), -math.inf)


def merge(first: Merged, second: Merged) -> Merged:
    """What queries see of two blocks of keys together."""
    lse = torch.logaddexp(first.lse, second.lse)
    shift = lse.masked_fill(lse == -math.inf, 0.0)
    shares = ((one.lse - shift).exp()[..., None] for one in (first, second))
    return Merged(sum((one.o * share for one, share in zip((first, second), shares, strict=True))), lse)  # type: ignore[arg-type]


def forward_block(q: Tensor, rows: Tensor, keys: Keys, rule: Rule, found: Merged) -> None:
    """Merges a block of keys into what queries (B, H, M, K) at places `rows` (M) have `found`, in place."""
    for piece in pieces(rows):
        for chunk in keys.chunks():
            seen = rule.seen(rows[piece], chunk.places, chunk.counts)
            if seen is None:
                continue
            scores = _scores(q[:, :, piece], chunk.k, seen)
            lse = scores.logsumexp(dim=-1)
            weights = scores.sub_(lse.masked_fill(lse == -math.inf, 0.0)[..., None]).exp_()
            both = merge(Merged(found.o[:, :, piece], found.lse[:, :, piece]), Merged(weights @ chunk.v, lse))
            found.o[:, :, piece], found.lse[:, :, piece] = both


class Gradients(NamedTuple):
    """Gradients of queries, keys and values."""

    q: Tensor
    k: Tensor
    v: Tensor


class Given(NamedTuple):
    """What the backward pass knows of the queries: they, their places, outputs' gradients, log sums, and D (B, H, M)."""

    q: Tensor
    rows: Tensor
    do: Tensor
    lse: Tensor
    d: Tensor

    @staticmethod
    def of(q: Tensor, rows: Tensor, found: Merged, do: Tensor) -> Given:
        """Rows that saw nothing get no gradient."""
        lse = found.lse.masked_fill(found.lse == -math.inf, math.inf)
        return Given(q, rows, do, lse, (do * found.o).sum(dim=-1))


def backward_block(given: Given, keys: Keys, rule: Rule, grads: Gradients) -> None:
    """Adds what a block of keys makes of the gradients, in place."""
    for piece in pieces(given.rows):
        q, do = given.q[:, :, piece], given.do[:, :, piece]
        for own, chunk in zip(runs(keys.places), keys.chunks(), strict=True):
            seen = rule.seen(given.rows[piece], chunk.places, chunk.counts)
            if seen is None:
                continue
            weights = _scores(q, chunk.k, seen).sub_(given.lse[:, :, piece, None]).exp_()
            grads.v[:, :, own] += weights.transpose(-1, -2) @ do
            ds = (do @ chunk.v.transpose(-1, -2)).sub_(given.d[:, :, piece, None]).mul_(weights)
            grads.q[:, :, piece] += ds @ chunk.k
            grads.k[:, :, own] += ds.transpose(-1, -2) @ q
