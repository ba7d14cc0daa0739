"""Averaging parents that lie on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wb.fusion.match.placed import Placed
from wb.models.axes import Map
from wb.models.model import Model
from wb.models.network import Network, build


@dataclass(frozen=True)
class Aligned:
    """A parent with the maps that bring it to the reference's axes."""

    parent: Placed
    maps: Mapping[str, Map]

    def weight(self, name: str) -> Tensor | None:
        """Its parameter for that of the reference, on the reference's axes; None where it has none."""
        return self.parent.mapped(name, self.maps) if name in self.parent.names else None


def merge(reference: Model, parents: Sequence[Aligned], shares: Sequence[float], *, release: bool = False) -> Model:
    """The weighted average of `parents`, in the architecture of `reference`; all in canonical form.

    What a parent lacks of a sub-layer counts as one that writes zero: weights and biases that write to the stream (in a
    pre-norm network, the norm in front of an operator without any) are averaged over all parents, everything else of the
    sub-layer over those that have it (without any, it is `reference`'s).
    One parameter after the other; with `release` the parents lose each as soon as it is averaged, so that large ones and
    the result are never held together.
    """
    writers = _writers(build(reference.architecture, "meta"))
    weights = {}
    for name in list(reference.weights):
        weight = reference.weights[name]
        total = torch.zeros_like(weight)
        present = 0.0
        for parent, share in zip(parents, shares, strict=True):
            found = parent.weight(name) if share else None
            if found is not None:
                total.add_(found, alpha=share)
                present += share
        if present == 0:
            weights[name] = torch.zeros_like(weight) if name in writers else weight
        else:
            weights[name] = total if name in writers else total.div_(present)
        if release:
            for parent in parents:
                parent.parent.release(name)
    return replace(reference, weights=weights)


def _writers(network: Network) -> set[str]:
    """The parameters that say how much each sub-layer writes."""
    found = set()
    for sublayer in network.walk():
        found |= {name for pair in sublayer.writers.items() for name in pair if name is not None}
        if not sublayer.writers and sublayer.wiring.folds:
            found |= {f"{sublayer.norm_prefix}.{name}" for name in sublayer.norm.axes}
    return found
