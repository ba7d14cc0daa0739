"""Runs of a network over one batch: whole, or with one sub-layer skipped."""

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
    """One whole run: the state before each sub-layer, each contribution, (B, N, D) or a map, and the logits (B, classes)."""

    states: list[State]
    writes: list[Tensor]
    logits: Tensor

    @property
    def inputs(self) -> list[Tensor]:
        """The stream that each sub-layer adds to, (B, N, D) or a map."""
        return [state.stream for state in self.states]


class Skipped(NamedTuple):
    """A run without one sub-layer: the contributions of later ones by index, and the logits (B, classes)."""

    writes: dict[int, Tensor]
    logits: Tensor


class Chain:
    """The sub-layers of `network` in order of execution."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.sublayers = list(network.walk())

    @property
    def names(self) -> list[str]:
        """The names of the sub-layers."""
        return [sublayer.name for sublayer in self.sublayers]

    def trace(self, images: Tensor) -> Trace:
        """The whole run on images (B, channels, height, width) in [0, 1]."""
        state = self.network.begin(images)
        states, writes = [], []
        for at in self.sublayers:
            state = self.network.enter(state, at.stage)
            states.append(state)
            writes.append(at.contribution(state))
            state = at.add(state, writes[-1])
        return Trace(states, writes, self.network.end(state))

    def skip(self, trace: Trace, s: int) -> Skipped:
        """The run without sub-layer `s` and its norm; it starts from the state that `trace` has before `s`."""
        state = self._without(trace, s)
        writes = {}
        for later in range(s + 1, len(self.sublayers)):
            at = self.sublayers[later]
            state = self.network.enter(state, at.stage)
            writes[later] = at.contribution(state)
            state = at.add(state, writes[later])
        return Skipped(writes, self.network.end(state))

    def direct(self, trace: Trace, s: int) -> Iterator[tuple[int, Tensor]]:
        """The contribution of each later sub-layer if only its own input lacked the contribution of `s`.

        The sub-layers between add what they added in `trace`; merges, and the norms of a post-norm network, run on the changed
        stream.
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
    """At most `limit` images, evenly spaced, so that every class keeps its share in a split sorted by class.

    Raises:
        BadOption: `limit` is below 1.
    """
    if limit is None or limit >= len(split):
        return split
    if limit < 1:
        raise BadOption(f"a limit of {limit} images leaves nothing to look at; give 1 or more")
    return split.take(np.arange(limit) * len(split) // limit)
