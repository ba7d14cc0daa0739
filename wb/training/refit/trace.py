"""Networks on their very weights, and batches."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from wb.models.model import Model
from wb.models.network import Network, build

BATCH = 32


def network_of(model: Model) -> Network:
    """The network of `model` on its very weights, in their type, in eval mode: nothing is copied."""
    network = build(model.architecture)
    network.load_state_dict(dict(model.weights), assign=True)
    return network.eval().requires_grad_(False)


def cut(images: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """`images` in batches."""
    yield from images.split(size)
