"""What a network computes for some images up to a sub-layer, and what it answers from there on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wb.models.model import Model
from wb.models.network import Network
from wb.models.walk import State, Sublayer
from wb.training.refit.trace import cut, network_of

BATCH = 64


class Streams:
    """A model's states for images (n, channels, height, width), or ids (n, N), before the sub-layer that its walk is at."""

    def __init__(self, model: Model, images: Tensor) -> None:
        self.network = network_of(model)
        self.batches = list(cut(images, BATCH))
        self.states: list[State] = []

    @torch.no_grad()
    def walk(self) -> Iterator[Sublayer]:
        """The sub-layers in order of execution; `states` are those before each."""
        self.states = [self.network.begin(part) for part in self.batches]
        for at in self.network.walk():
            self.states = [self.network.enter(state, at.stage) for state in self.states]
            yield at
            self.states = [at(state) for state in self.states]

    def logits(self) -> Tensor:
        """What the whole network answers: (n, classes), or (n, N, vocabulary)."""
        with torch.no_grad():
            return torch.cat([self.network(part) for part in self.batches])

    def answers(self, network: Network, first: str) -> Tensor:
        """What `network`, which is like the model before its sub-layer `first`, answers from the present states."""
        order = [at.name for at in self.network.walk()]
        later = set(order[order.index(first) :])
        with torch.no_grad():
            return torch.cat([_ended(network, state, later) for state in self.states])


def _ended(network: Network, state: State, later: set[str]) -> Tensor:
    for at in network.walk():
        if at.name in later:
            state = at(network.enter(state, at.stage))
    return network.end(state)
