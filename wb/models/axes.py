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
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wb.core.errors import BadArtefact, BadOption
from wb.core.records import Dim


class Axis(NamedTuple):
    """One dimension of a parameter: the axis it lies on and what the parameter does there."""

    name: str
    role: Literal["write", "read"]


Axes = tuple[Axis | None, ...]


@cache
def write(name: str) -> Axis:
    """A dimension that produces the axis."""
    return Axis(name, "write")


@cache
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
class SelectWithin:
    """Keeps other entries for every entry of a second axis, `along`: `index` is (entries of `along`, kept), int64.

    So each head keeps the channels of its own that matter. Where `along` is mapped in the same call, its entries are those
    afterwards. Every parameter on the mapped axis has to lie on `along` too (`wb.models.axes.nested`).
    """

    index: Tensor
    along: str

    def within(self, tensor: Tensor, dim: int, along: int, role: str) -> Tensor:
        """`tensor` with the entries of `dim` chosen anew for each entry of dimension `along`."""
        shape = [1] * tensor.dim()
        shape[along], shape[dim] = self.index.shape
        index = self.index if along < dim else self.index.T
        sizes = list(tensor.shape)
        sizes[dim] = self.index.shape[1]
        return tensor.gather(dim, index.to(tensor.device).reshape(shape).expand(sizes))


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


@dataclass(frozen=True)
class CoupleWithin:
    """Multiplies by another matrix for every entry of a second axis, `along`: `write` and `read` are (entries, new, old).

    So each head has a rotation of its own. As with `SelectWithin`, the entries are those after `along` was mapped itself.
    """

    write: Tensor
    read: Tensor
    along: str

    def within(self, tensor: Tensor, dim: int, along: int, role: str) -> Tensor:
        """`tensor` with dimension `dim` multiplied anew for each entry of dimension `along`."""
        matrices = (self.write if role == "write" else self.read).to(tensor)
        moved = tensor.movedim((along, dim), (0, -1))  # (entries, …, old)
        flat = moved.reshape(moved.shape[0], -1, moved.shape[-1]) @ matrices.transpose(1, 2)
        return flat.reshape(*moved.shape[:-1], -1).movedim((0, -1), (along, dim))


Map = Leading | Select | SelectWithin | Couple | CoupleWithin


def remap(weights: Mapping[str, Tensor], axes: Mapping[str, Axes], maps: Mapping[str, Map]) -> dict[str, Tensor]:
    """The parameters named in `axes`, with `maps` applied to every dimension that lies on a mapped axis.

    Parameters of `weights` that `axes` does not name are left out, so the axes of a sub-network take from a supernet just
    what that sub-network has.

    Limits: but for maps within another axis, attention channels (`qk`, `v`) are mapped alike in all heads of a block;
    dropping entries of `embed` changes the statistics of the norms and so is never exact.

    Raises:
        BadArtefact: a parameter is missing from `weights`.
        BadOption: a map within another axis, on a parameter that does not lie on that.
    """
    result = {}
    for name, dimensions in axes.items():
        if name not in weights:
            raise BadArtefact(
                f"the weights have no {name!r}, which the architecture needs; they belong to another network"
            )
        result[name] = _mapped(weights[name], name, dimensions, maps)
    return result


def nested(axes: Mapping[str, Axes], dims: Mapping[str, Dim]) -> dict[str, str]:
    """Axis -> the axis within which its entries may be chosen freely: `s0.b3.qk` -> `s0.b3.heads`.

    `dims` (`axis_dims`) say within which they may lie. They do where every parameter on the first lies on the second too:
    then each head has channels of its own. (Not so for the values of SLA, whose convolution all heads share.)
    """
    outer = {name: f"{name.rsplit('.', 1)[0]}.{dim.within}" for name, dim in dims.items() if dim.within is not None}
    together = [{axis.name for axis in dimensions if axis is not None} for dimensions in axes.values()]
    found = {name for names in together for name in names if name in outer}
    return {
        name: outer[name] for name in outer if name in found and all(outer[name] in n for n in together if name in n)
    }


def _mapped(tensor: Tensor, name: str, dimensions: Axes, maps: Mapping[str, Map]) -> Tensor:
    """One parameter; what is mapped within another axis comes last."""
    later = []
    for dim, axis in enumerate(dimensions):
        if axis is None or axis.name not in maps:
            continue
        map_ = maps[axis.name]
        if isinstance(map_, SelectWithin | CoupleWithin):
            later.append((dim, axis.role, map_))
        else:
            tensor = map_(tensor, dim, axis.role)
    for dim, role, map_ in later:
        tensor = map_.within(tensor, dim, _place(dimensions, map_.along, name), role)
    return tensor


def _place(dimensions: Axes, along: str, parameter: str) -> int:
    """Which dimension of a parameter lies on `along`."""
    for dim, axis in enumerate(dimensions):
        if axis is not None and axis.name == along:
            return dim
    raise BadOption(
        f"{parameter} does not lie on {along}, so that entries cannot be chosen within it; choose them alike"
    )
