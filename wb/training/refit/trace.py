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


def cut(inputs: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """Images, or ids that are negative at padding, in batches; texts without the columns that have nothing but padding."""
    for part in inputs.split(size):
        yield part if part.is_floating_point() else part[:, : max(1, int((part >= 0).sum(1).max()))]


def whole(inputs: Tensor, network: Network) -> Iterator[Tensor]:
    """Inputs as the network's weights have them, in batches where every token counts: texts one by one."""
    weight = next(network.parameters())
    if inputs.is_floating_point():
        yield from cut(inputs.to(weight))
    else:
        yield from cut(inputs.to(weight.device), 1)


def read_by_head(network: Network, state: State) -> Tensor:
    """What the head reads of a network that ends with `state`: (B, D), of a pair (B, 2, D)."""
    state = network.enter(state, len(network.stages) - 1)
    return network.pooled(network.wiring(state.stage).end(state), state.context.mask)
