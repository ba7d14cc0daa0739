"""Softmax attention over tokens that several processes hold.

Source: Liu et al., "Ring Attention with Blockwise Transformers for Near-Infinite Context", 2023,
https://arxiv.org/abs/2310.01889: keys and values travel on a ring, and outputs are merged block by block.
`rows` is the published form of Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective", 2021,
https://arxiv.org/abs/2105.13120, section 3.2: keys travel first, until each process has whole rows of scores, then values.
Differs: gradients of keys and values travel with them, and one step more, home. Both have the same bytes; `rows` holds L² / R
scores, the merged form a piece of queries times a chunk of keys (`wb.scale.ring.blocks`).
Limits: `rows` computes all scores, also those that are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wb.scale.ring.blocks import Given, Gradients, Keys, Merged, Rule, backward_block, forward_block
from wb.scale.ring.channel import Channel
from wb.scale.ring.order import order

Form = Literal["merged", "rows"]
FORMS: tuple[Form, ...] = get_args(Form)
_SHORT = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Spread:
    """How the tokens of a line are spread among the processes of a `channel`; with one process it has them all."""

    channel: Channel
    form: Form = "merged"

    def places(self, own: int) -> Tensor:
        """The places of this process's `own` tokens in the line, (own)."""
        return self._at(self.channel.rank, own)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, rule: Rule, counts: Tensor | None = None) -> Tensor:
        """Attention of this process's queries to all tokens' keys.

        Queries (B, H, M, K) have their scale; keys (B, H, N, K) and values (B, H, N, V) are of the process's N tokens, in
        their order. M is a multiple of N: groups of queries, each in that order. `counts` (B, N) says which tokens count.
        Gives (B, H, M, V).

        Raises:
            ProcessLost: another process has ended.
        """
        kind = _Rows if self.form == "rows" else _Merged
        with torch.autocast(q.device.type, enabled=False):  # logarithms of sums need more than 16 bits
            q, k, v = (x.float() if x.dtype in _SHORT else x for x in (q, k, v))
            found: Tensor = kind.apply(q, k, v, counts, rule, self)  # type: ignore[no-untyped-call]
        return found

    def sums(self, chunks: Tensor) -> tuple[Tensor, Tensor]:
        """Of sums over each of the process's chunks (2, ...): sums over all that come before each chunk, and over the whole line.

        For attention that is linear in its tokens, which needs no more of the others: (2, ...) and (...).
        """
        before, whole = _Sums.apply(chunks, self.channel)  # type: ignore[no-untyped-call]
        return before, whole

    def _at(self, rank: int, own: int) -> Tensor:
        return order(own * self.channel.count, rank, self.channel.count)

    def keys(self, step: int, k: Tensor, v: Tensor, counts: Tensor | None) -> Keys:
        """What is here after `step` steps: that of the process so many before."""
        rank = (self.channel.rank - step) % self.channel.count
        return Keys(k, v, self._at(rank, k.shape[2]).to(k.device), None if counts is None else counts > 0)

    def rows(self, q: Tensor, k: Tensor) -> Tensor:
        """The places of queries (M), in groups as many as keys."""
        return self.places(k.shape[2]).to(q.device).repeat(q.shape[2] // k.shape[2])


def whole(form: Form = "merged") -> Spread:
    """All tokens in this process: the same functions, without messages."""
    return Spread(Channel(), form)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, counts: Tensor | None, rule: Rule, spread: Spread) -> Tensor:
        channel = spread.channel
        own = None if counts is None else counts.to(k)
        rows, found = spread.rows(q, k), Merged.nothing(q, v.shape[3])
        here = [k, v] if own is None else [k, v, own]
        for step in range(channel.count):
            handed = channel.hand_on(here) if step < channel.count - 1 else None
            forward_block(
                q, rows, spread.keys(step, here[0], here[1], here[2] if own is not None else None), rule, found
            )
            here = here if handed is None else handed.taken()
        ctx.save_for_backward(q, k, v, own, *found)
        ctx.rule, ctx.spread = rule, spread
        return found.o

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, own, o, lse = ctx.saved_tensors
        spread: Spread = ctx.spread
        channel = spread.channel
        given = Given.of(q, spread.rows(q, k), Merged(o, lse), do)
        here = [k, v] if own is None else [k, v, own]
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for step in range(channel.count):
            handed = channel.hand_on(here) if step < channel.count - 1 else None
            keys = spread.keys(step, here[0], here[1], here[2] if own is not None else None)
            backward_block(given, keys, ctx.rule, Gradients(dq, dk, dv))
            if channel.count > 1:
                dk, dv = channel.hand_on([dk, dv]).taken()
            here = here if handed is None else handed.taken()
        return dq, dk, dv, None, None, None


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, counts: Tensor | None, rule: Rule, spread: Spread) -> Tensor:
        rows, own = spread.rows(q, k), None if counts is None else counts.to(k)
        blocks, seen = [], []
        for step, (key, *rest) in enumerate(_round(spread, [k] if own is None else [k, own])):
            there = spread.keys(step, key, key, rest[0] if rest else None)
            scores = q @ key.transpose(-1, -2)
            mask = rule.seen(rows, there.places, there.counts)
            seen.append(mask)
            blocks.append(scores if mask is True else _hidden(scores, mask))
        lse = torch.cat(blocks, dim=-1).logsumexp(dim=-1, keepdim=True)
        lse = lse.masked_fill(lse == -torch.inf, torch.inf)
        weights = [(block - lse).exp() for block in blocks]
        o = q.new_zeros(*q.shape[:3], v.shape[3])
        for block, (value,) in zip(weights, _round(spread, [v]), strict=True):
            o += block @ value
        ctx.save_for_backward(q, k, v, o, *weights)
        ctx.spread = spread
        return o

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, o, *weights = ctx.saved_tensors
        spread: Spread = ctx.spread
        d, scores, dv = (do * o).sum(dim=-1, keepdim=True), [], torch.zeros_like(v)
        for block, (value,) in zip(weights, _round(spread, [v]), strict=True):
            scores.append(block * (do @ value.transpose(-1, -2) - d))
            dv = _home(spread, dv + block.transpose(-1, -2) @ do)
        dq, dk = torch.zeros_like(q), torch.zeros_like(k)
        for block, (key,) in zip(scores, _round(spread, [k]), strict=True):
            dq += block @ key
            dk = _home(spread, dk + block.transpose(-1, -2) @ q)
        return dq, dk, dv, None, None, None


def _hidden(scores: Tensor, mask: Tensor | bool | None) -> Tensor:
    if mask is None:
        return torch.full_like(scores, -torch.inf)
    return scores.masked_fill(~torch.as_tensor(mask), -torch.inf)


def _round(spread: Spread, here: list[Tensor]) -> Any:
    """What is here after each step of a whole round, this process's own first."""
    count = spread.channel.count
    for step in range(count):
        handed = spread.channel.hand_on(here) if step < count - 1 else None
        yield here
        here = here if handed is None else handed.taken()


def _home(spread: Spread, grad: Tensor) -> Tensor:
    """A gradient one step on, so that it is home after the last."""
    return grad if spread.channel.count == 1 else spread.channel.hand_on([grad]).taken()[0]


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chunks: Tensor, channel: Channel) -> tuple[Tensor, Tensor]:
        ctx.channel = channel
        line = _in_line(channel.gathered(chunks))
        return _own(_before(line), channel), line.sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, before: Tensor, whole: Tensor) -> tuple[Tensor | None, ...]:
        """A chunk is in the sums of all that come after it, and in the whole of each process."""
        channel: Channel = ctx.channel
        line = _in_line(channel.gathered(before))
        after = _before(line.flip(0)).flip(0)
        return _own(after, channel) + channel.added_up(whole.clone()), None


def _in_line(found: list[Tensor]) -> Tensor:
    """The processes' pairs of chunks, in the order of the line: (2 · count, ...)."""
    if len(found) == 1:
        return found[0]
    return torch.cat([torch.stack([pair[0] for pair in found]), torch.stack([pair[1] for pair in reversed(found)])])


def _before(line: Tensor) -> Tensor:
    """Sums of what stands before each entry. None is subtracted, so that sums of zeros are zero: they are divided by."""
    return torch.cat([torch.zeros_like(line[:1]), line[:-1]]).cumsum(dim=0)


def _own(line: Tensor, channel: Channel) -> Tensor:
    """This process's pair."""
    if channel.count == 1:
        return line
    return torch.stack([line[channel.rank], line[2 * channel.count - 1 - channel.rank]])


def bytes_sent(count: int, tokens: int, keys: int, values: int, element: int) -> tuple[int, int]:
    """Bytes that a process sends forwards and backwards, in either form, for `tokens` of its own with so many entries of keys and
    values each (batch times heads times channels): 2 (R - 1), and 2 (R - 1) + 2 R, of the size of one of them.

    Source: counted from the formulas; they do not depend on how long the line is but by the process's part of it.
    """
    if count == 1:
        return 0, 0
    each = tokens * (keys + values) * element
    return (count - 1) * each, (2 * count - 1) * each
