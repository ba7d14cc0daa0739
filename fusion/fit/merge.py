"""Averaging the weights of aligned parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wb.fusion.match.placed import Placed
from wb.models.axes import Map
from wb.models.model import Model
from wb.models.network import Network, build


@dataclass(frozen=True)
class Aligned:
    """A parent, and the maps that bring it to the axes of the reference.

    `known` has, by parameter, true at the rows that are the parent's: those of tokens that its tokenizer has.
    """

    parent: Placed
    maps: Mapping[str, Map]
    known: Mapping[str, Tensor] = field(default_factory=dict)

    def weight(self, name: str) -> Tensor | None:
        """The parent's parameter for the reference's `name`, on the reference's axes; None if the parent has none."""
        return self.parent.mapped(name, self.maps) if name in self.parent.names else None


def merge(reference: Model, parents: Sequence[Aligned], shares: Sequence[float], *, release: bool = False) -> Model:
    """The weighted average of `parents`, in the architecture of `reference`; all in canonical form.

    A sub-layer that a parent lacks counts as one that adds zero to the stream. So weights and biases that write to the stream, or
    the gains and shifts of norms behind them (for an operator without any its join, or else its norm in a pre-norm network), are
    averaged over all parents. All other parameters, and those in front of a gate, are averaged over the parents that have them,
    row by row where they have not all; if there are none, the reference's stay.

    With `release`, parents drop each parameter once it is averaged, so that memory never holds all parents and the result.
    """
    writers = _writers(build(reference.architecture, "meta"))
    weights = {}
    for name in list(reference.weights):
        weight = reference.weights[name]
        total = torch.zeros_like(weight)
        present: float | Tensor = 0.0
        for parent, share in zip(parents, shares, strict=True):
            found = parent.weight(name) if share else None
            if found is not None:
                rows = parent.known.get(name)
                total.add_(found if rows is None else found * rows[:, None], alpha=share)
                present = present + (share if rows is None else share * rows[:, None].to(weight))
        if isinstance(present, Tensor):
            weights[name] = torch.where(present > 0, total / present.clamp(min=1e-12), weight)
        elif present == 0:
            weights[name] = torch.zeros_like(weight) if name in writers else weight
        else:
            weights[name] = total if name in writers else total.div_(present)
        if release:
            for parent in parents:
                parent.parent.release(name)
    return replace(reference, weights=weights)


def _writers(network: Network) -> set[str]:
    """The parameters that what sub-layers add to the stream is proportional to: of operators, or of joins, or of norms."""
    found = set()
    for sublayer in network.walk():
        if sublayer.gated:
            continue
        found |= {*sublayer.silencing}
        if not sublayer.silencing and sublayer.join is not None:
            found |= {f"{sublayer.join_prefix}.{name}" for name in sublayer.join.axes}
        elif not sublayer.silencing and sublayer.wiring.folds:
            found |= {f"{sublayer.norm_prefix}.{name}" for name in sublayer.norm.axes}
    return found
