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
    """The answers from a state on: behind the last operator that mixes tokens only those that the head reads are computed."""
    steps = list(network.walk())
    alone = len(steps)
    while alone and _by_token(steps[alone - 1]) and steps[alone - 1].stage == len(network.stages) - 1:
        alone -= 1
    for i, at in enumerate(steps):
        if at.name in later:
            state = network.enter(state, at.stage)
            state = at(_read(network, state) if i >= alone else state)
    return network.end(state)


def _by_token(at: Sublayer) -> bool:
    """Whether a sub-layer computes each token by itself."""
    return at.kind == "ffn" and at.operator.plain and at.norm.local


def _read(network: Network, state: State) -> State:
    """A state of the last stage with nothing but the tokens that the head reads, where these are the first ones."""
    a, last = network.architecture, network.norm
    if a.head.pool not in ("first", "pair") or state.stream.dim() != 3 or state.context.mask is not None:
        return state
    if last is not None and not last.local:
        return state
    first = slice(0, a.prefix)
    return state._replace(stream=state.stream[:, first], memory=tuple(one[:, first] for one in state.memory))
