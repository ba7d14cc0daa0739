"""A network run once as it is, and again with one of its sub-layers skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from wb.core.errors import BadOption
from wb.data import Split
from wb.models.network import Network
from wb.models.walk import State


class Trace(NamedTuple):
    """One run over a batch: the state in front of each sub-layer, what it added (B, N, D), and the logits (B, classes)."""

    states: list[State]
    writes: list[Tensor]
    logits: Tensor

    @property
    def inputs(self) -> list[Tensor]:
        """The stream (B, N, D) that each sub-layer adds to."""
        return [state.stream for state in self.states]


class Skipped(NamedTuple):
    """A run without sub-layer `s`: what each later one added, by its index, and the logits (B, classes)."""

    writes: dict[int, Tensor]
    logits: Tensor


class Chain:
    """The sub-layers of `network` in order of execution."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.sublayers = list(network.walk())

    @property
    def names(self) -> list[str]:
        """Of the sub-layers."""
        return [sublayer.name for sublayer in self.sublayers]

    def trace(self, images: Tensor) -> Trace:
        """The run as it is, on images (B, channels, height, width) in [0, 1]."""
        state = self.network.begin(images)
        states, writes = [], []
        for at in self.sublayers:
            state = self.network.enter(state, at.stage)
            states.append(state)
            writes.append(at.contribution(state))
            state = at.add(state, writes[-1])
        return Trace(states, writes, self.network.end(state))

    def skip(self, trace: Trace, s: int) -> Skipped:
        """The run without sub-layer `s` and its norm; the ones before it are those of `trace`."""
        state = self._without(trace, s)
        writes = {}
        for later in range(s + 1, len(self.sublayers)):
            at = self.sublayers[later]
            state = self.network.enter(state, at.stage)
            writes[later] = at.contribution(state)
            state = at.add(state, writes[later])
        return Skipped(writes, self.network.end(state))

    def direct(self, trace: Trace, s: int) -> Iterator[tuple[int, Tensor]]:
        """What each later sub-layer would add if its input lacked the contribution of `s` and nothing else.

        Those between add what they did; merges, and the norms of a post-norm network, take the rest of the stream along.
        """
        state = self._without(trace, s)
        for later in range(s + 1, len(self.sublayers)):
            at = self.sublayers[later]
            state = self.network.enter(state, at.stage)
            yield later, at.contribution(state)
            state = at.add(state, trace.writes[later])

    def _without(self, trace: Trace, s: int) -> State:
        at = self.sublayers[s]
        return at.wiring.skip(trace.states[s], at)


def chosen(split: Split, limit: int | None) -> Split:
    """At most `limit` images, evenly spaced: of a split that is sorted by class, every class keeps its share.

    Raises:
        BadOption: `limit` is below 1.
    """
    if limit is None or limit >= len(split):
        return split
    if limit < 1:
        raise BadOption(f"a limit of {limit} images leaves nothing to look at; give 1 or more")
    return split.take(np.arange(limit) * len(split) // limit)
