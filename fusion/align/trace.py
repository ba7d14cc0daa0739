"""Walking through a network sub-layer by sub-layer, on batches that are kept where they are."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from wb.fusion.forms.canonical import Sublayer
from wb.models.model import Model
from wb.models.network import Network, build
from wb.models.operators._base import OperatorModule

BATCH = 32


def network_of(model: Model) -> Network:
    """The network of `model` on its very weights, in their type, in eval mode: nothing is copied."""
    network = build(model.architecture)
    network.load_state_dict(dict(model.weights), assign=True)
    return network.eval().requires_grad_(False)


def cut(images: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """`images` in batches."""
    yield from images.split(size)


def operator(network: Network, sublayer: Sublayer) -> OperatorModule:
    """The operator of a sub-layer in `network`."""
    found = network.get_submodule(sublayer.prefix)
    if not isinstance(found, OperatorModule):
        raise TypeError(f"{sublayer.prefix} is a {type(found).__name__}")
    return found


def read_by(network: Network, sublayer: Sublayer, x: Tensor) -> Tensor:
    """What the operator of a sub-layer sees of the stream (B, N, D)."""
    norm = network.get_submodule(sublayer.norm)
    return norm(x) if network.form == "pre" else x


def projected(network: Network, sublayer: Sublayer, seen: Tensor) -> dict[str, Tensor]:
    """What each reader makes of what it sees: local name -> (B, N, its other axes flattened)."""
    module = operator(network, sublayer)
    return {
        name: nn.functional.linear(seen, getattr(module, name).flatten(0, -2), getattr(module, bias).flatten())
        for name, bias in sublayer.module.readers.items()
    }


def added(network: Network, sublayer: Sublayer, x: Tensor, contribution: Tensor) -> Tensor:
    """The stream after a sub-layer contributed."""
    norm = network.get_submodule(sublayer.norm)
    return x + contribution if network.form == "pre" else norm(x + contribution)


def contribution(network: Network, sublayer: Sublayer, x: Tensor) -> Tensor:
    """What a sub-layer adds to the stream x (B, N, D)."""
    given: Tensor = operator(network, sublayer)(read_by(network, sublayer, x))
    return given
