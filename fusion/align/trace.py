"""Networks on their very weights, batches, and what the readers of a sub-layer make of what it sees."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F

from wb.models.model import Model
from wb.models.network import Network, build
from wb.models.walk import Sublayer

BATCH = 32


def network_of(model: Model) -> Network:
    """The network of `model` on its very weights, in their type, in eval mode: nothing is copied."""
    network = build(model.architecture)
    network.load_state_dict(dict(model.weights), assign=True)
    return network.eval().requires_grad_(False)


def cut(images: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """`images` in batches."""
    yield from images.split(size)


def projected(at: Sublayer, seen: Tensor) -> dict[str, Tensor]:
    """What each reader makes of what it sees: local name -> (B, N, its other axes flattened)."""
    operator = at.operator
    found = {}
    for name in operator.readers:
        bias = operator.bias(name)
        weight: Tensor = getattr(operator, name)
        found[name] = F.linear(seen, weight.flatten(0, -2), None if bias is None else bias.flatten())
    return found
