"""Networks on their very weights, batches, and what a head reads."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from wb.models.model import Model
from wb.models.network import Network, build
from wb.models.walk import State

BATCH = 32


def network_of(model: Model) -> Network:
    """The network of `model` on its very weights, in their type, in eval mode: nothing is copied."""
    network = build(model.architecture)
    network.load_state_dict(dict(model.weights), assign=True)
    return network.eval().requires_grad_(False)


def cut(images: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """`images` in batches."""
    yield from images.split(size)


def read_by_head(network: Network, state: State) -> Tensor:
    """What the head reads of a network that ends with `state`: (B, D), of a pair (B, 2, D)."""
    state = network.enter(state, len(network.stages) - 1)
    return network.pooled(network.wiring(state.stage).end(state), state.context.mask)
