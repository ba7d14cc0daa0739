"""Named axes, and `remap`: the one mechanism under supernets, pruning, fusion and growth.

Alphabet of this package: B batch, N tokens, D embed, H heads, K qk channels per head, V v channels per head, M mlp.

A module lists, for each of its parameters, the axis of every dimension and whether the parameter *writes* that axis (the
dimension is an output: a row of a weight, a bias) or *reads* it (an input: a column of a weight). A dimension without a
name (None) is fixed. From that declaration alone `remap` makes a sub-network (leading entries, as views), prunes (an
index set), or transports (a matrix on what is written and its counterpart on what is read).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wb.core.errors import BadArtefact


class Axis(NamedTuple):
    """One dimension of a parameter: the axis it lies on and what the parameter does there."""

    name: str
    role: Literal["write", "read"]


Axes = tuple[Axis | None, ...]


def write(name: str) -> Axis:
    """A dimension that produces the axis."""
    return Axis(name, "write")


def read(name: str) -> Axis:
    """A dimension that consumes the axis."""
    return Axis(name, "read")


@dataclass(frozen=True)
class Leading:
    """Keeps the first `size` entries, as a view: what is shared stays shared, gradients included."""

    size: int

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        return tensor if tensor.shape[dim] == self.size else tensor.narrow(dim, 0, self.size)


@dataclass(frozen=True)
class Select:
    """Keeps the entries at `index` (one-dimensional, int64), in that order; an entry may come more than once."""

    index: Tensor

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        return tensor.index_select(dim, self.index.to(tensor.device))


@dataclass(frozen=True)
class Couple:
    """Multiplies by a matrix: `write` (new, old) where the axis is produced, `read` (new, old) where it is consumed.

    With a permutation P both are P. Duplicating an entry k times is `write` with k equal rows and `read` with the same
    rows divided by k, so that what is consumed sums to the same.
    """

    write: Tensor
    read: Tensor

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        matrix = (self.write if role == "write" else self.read).to(tensor)
        moved: Tensor = torch.tensordot(tensor, matrix, dims=([dim], [1])).movedim(-1, dim)
        return moved


Map = Leading | Select | Couple


def remap(weights: Mapping[str, Tensor], axes: Mapping[str, Axes], maps: Mapping[str, Map]) -> dict[str, Tensor]:
    """The parameters named in `axes`, with `maps` applied to every dimension that lies on a mapped axis.

    Parameters of `weights` that `axes` does not name are left out, so the axes of a sub-network take from a supernet just
    what that sub-network has.

    Limits: attention channels (`qk`, `v`) are mapped alike in all heads of a block; dropping entries of `embed` changes
    the statistics of the norms and so is never exact.

    Raises:
        BadArtefact: a parameter is missing from `weights`.
    """
    result = {}
    for name, dimensions in axes.items():
        if name not in weights:
            raise BadArtefact(
                f"the weights have no {name!r}, which the architecture needs; they belong to another network"
            )
        tensor = weights[name]
        for dim, axis in enumerate(dimensions):
            if axis is not None and axis.name in maps:
                tensor = maps[axis.name](tensor, dim, axis.role)
        result[name] = tensor
    return result
