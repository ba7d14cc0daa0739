"""The attention weights of any mixer that computes some: what its softmax over keys gives, caught while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wb.core.records import dims
from wb.models.network import Network
from wb.models.walk import Sublayer

HEADS = "heads"  # the width of a record that has heads
_SOFTMAX = (Tensor.softmax, torch.softmax, torch.nn.functional.softmax)


class _Caught(TorchFunctionMode):
    """Keeps what softmaxes over the last axis of four or more give: (…, heads, queries, keys)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if func in _SOFTMAX and given.dim() >= 4:
            axis = (kwargs or {}).get("dim", args[1] if len(args) > 1 else None)
            if axis in (-1, given.dim() - 1):
                self.found.append(given.detach())
        return given


def heads_of(at: Sublayer) -> int:
    """How many heads a mixer has; one where its record has none."""
    record = at.operator.record
    return int(getattr(record, HEADS)) if HEADS in dims(type(record)) else 1


def attended(network: Network, inputs: Tensor) -> Iterator[tuple[str, int, Tensor | None]]:
    """Every mixer in order: its name, its heads, and its weights (groups, heads, queries, keys), rows of which add up to 1.

    A group is an example, or a part of one where it attends within windows or blocks. A mixer that computes several softmaxes
    has the last. None for one that computes none over keys, or none head by head.
    """
    state = network.begin(inputs)
    for at in network.walk():
        state = network.enter(state, at.stage)
        if at.kind != "mixer":
            state = at(state)
            continue
        with _Caught() as caught:
            state = at(state)
        heads = heads_of(at)
        yield at.name, heads, _by_head(caught.found, heads)


def _by_head(found: list[Tensor], heads: int) -> Tensor | None:
    """The last of the weights, head by head; windows that were laid beside heads count as groups."""
    if not found or found[-1].shape[1] % heads:
        return None
    weights = found[-1]
    weights = weights.reshape(-1, heads, *weights.shape[2:])
    if weights.dim() > 4:  # blocks of queries, each with keys of its own
        weights = weights.flatten(2, -3).transpose(1, 2).flatten(0, 1)
    return weights
