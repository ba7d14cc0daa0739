"""What the writer of a sub-layer reads, and what the sub-layer gives, on some of the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import OperatorModule
from wb.models.layers.planes import as_tokens
from wb.models.network import skeleton
from wb.models.walk import Sublayer
from wb.search.alternatives.fit import Writer
from wb.search.alternatives.option import unit_of
from wb.training.refit.streams import Streams

ROWS = 24_576  # tokens that a writer is fitted on


def given(at: Sublayer, streams: Streams, rows: list[Tensor]) -> list[Tensor]:
    """What a sub-layer gives at those tokens, by batch: (rows, D)."""
    return [
        as_tokens(at.operator(at.read(state), state.context)).flatten(0, 1)[some]
        for state, some in zip(streams.states, rows, strict=True)
    ]


def observed(
    at: Sublayer, operator: OperatorModule, streams: Streams, rows: list[Tensor], targets: list[Tensor]
) -> Writer:
    """What the writer of an operator in the place of a sub-layer's reads, and what it has to write."""
    ((name, bias),) = operator.writers.items()
    weight: Tensor = getattr(operator, name).flatten(1)
    if isinstance(operator, BatchNormed):
        weight = weight * operator.affine(name)[0][:, None]
    writer = Writer(
        weight,
        weight[:, 0] if bias or isinstance(operator, BatchNormed) else None,
        operator.sizes[unit_of(at) or ""],
    )
    for state, some, target in zip(streams.states, rows, targets, strict=True):
        writer.add(as_tokens(operator.hidden(at.read(state), state.context)).flatten(0, 1)[some], target)
    return writer


def rows_of(architecture: Architecture, at: Sublayer, streams: Streams, seed: int) -> list[Tensor]:
    """The tokens that are fitted on, by batch.

    All of them count for what follows, but in the last block of a network whose head looks at tokens in front of the
    others: half of those there are such.
    """
    generator = torch.Generator().manual_seed(seed)
    a, ends = architecture, [one.place for one in skeleton(architecture).walk()]
    if streams.states[0].context.mask is not None:
        return _counting(streams, generator)
    every = [as_tokens(state.stream).shape[:2] for state in streams.states]
    last = at.place == ends[-1] and a.prefix > 0 and a.head.pool != "mean"
    total = sum(n * tokens for n, tokens in every)
    share = min(1.0, ROWS / total)
    found = []
    for n, tokens in every:
        first = (torch.arange(n)[:, None] * tokens + torch.arange(a.prefix)).flatten()
        count = len(first) if last else max(1, round(share * n * tokens))
        some = torch.randperm(n * tokens, generator=generator)[:count]
        found.append(torch.cat([first, some]) if last else some)
    return found


def _counting(streams: Streams, generator: torch.Generator) -> list[Tensor]:
    """Some of the tokens that count, by batch."""
    there = [state.context.mask.flatten().nonzero()[:, 0] for state in streams.states if state.context.mask is not None]
    share = min(1.0, ROWS / sum(map(len, there)))
    return [one[torch.randperm(len(one), generator=generator)[: max(1, round(share * len(one)))]] for one in there]
