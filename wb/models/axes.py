"""Named axes, and `remap`, the one mechanism behind supernets, pruning, fusion and growth.

Alphabet of this package: B batch, N tokens, D embed, H heads, K qk channels per head, V v channels per head, M mlp.

A module declares for each of its parameters the axis of every dimension, and its role there: the parameter *writes* the axis
if the dimension is an output (a row of a weight, a bias) and *reads* it if the dimension is an input (a column of a weight).
A dimension without an axis (None) is fixed. From these declarations alone `remap` makes a sub-network (leading entries, as
views), prunes (an index set), or transports (a matrix on writers and its counterpart on readers).
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
    """One dimension of a parameter: its axis, and whether the parameter writes or reads that axis.

    A "side" is neither: it is a side of a convolution's kernel, or another size that only shared weights map, to their `Centre`.
    """

    name: str
    role: Literal["write", "read", "side"]


Axes = tuple[Axis | None, ...]


@cache
def write(name: str) -> Axis:
    """The axis, written: the dimension is an output."""
    return Axis(name, "write")


@cache
def read(name: str) -> Axis:
    """The axis, read: the dimension is an input."""
    return Axis(name, "read")


@cache
def side(name: str) -> Axis:
    """The axis as a side of a kernel."""
    return Axis(name, "side")


@dataclass(frozen=True)
class Leading:
    """Keeps the first `size` entries, as a view: shared weights stay shared, gradients included."""

    size: int

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        return tensor if tensor.shape[dim] == self.size else tensor.narrow(dim, 0, self.size)


@dataclass(frozen=True)
class Centre:
    """Keeps the `size` entries in the middle, as a view: how a small kernel shares the weights of a large one."""

    size: int

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        return tensor.narrow(dim, (tensor.shape[dim] - self.size) // 2, self.size)


@dataclass(frozen=True)
class Select:
    """Keeps the entries at `index` (one-dimensional, int64), in that order; an entry may come more than once."""

    index: Tensor

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        return tensor.index_select(dim, self.index.to(tensor.device))


@dataclass(frozen=True)
class SelectWithin:
    """Keeps different entries for every entry of a second axis, `along`: `index` is (entries of `along`, kept), int64.

    So each head can keep its own channels. If `along` is mapped in the same call, `index` refers to its entries after that map.
    Every parameter on the mapped axis has to lie on `along` too (`wb.models.axes.nested`).
    """

    index: Tensor
    along: str

    def within(self, tensor: Tensor, dim: int, along: int, role: str) -> Tensor:
        """`tensor` with the entries of dimension `dim` chosen separately for each entry of dimension `along`."""
        shape = [1] * tensor.dim()
        shape[along], shape[dim] = self.index.shape
        index = self.index if along < dim else self.index.T
        sizes = list(tensor.shape)
        sizes[dim] = self.index.shape[1]
        return tensor.gather(dim, index.to(tensor.device).reshape(shape).expand(sizes))


@dataclass(frozen=True)
class Couple:
    """Multiplies by a matrix: writers by `write` (new, old), readers by `read` (new, old).

    A permutation P has P for both. Duplicating an entry k times is `write` with k equal rows, and `read` with the same rows
    divided by k, so that the readers' sum stays the same.
    """

    write: Tensor
    read: Tensor

    def __call__(self, tensor: Tensor, dim: int, role: str) -> Tensor:
        matrix = (self.write if role == "write" else self.read).to(tensor)
        moved: Tensor = torch.tensordot(tensor, matrix, dims=([dim], [1])).movedim(-1, dim)
        return moved


@dataclass(frozen=True)
class CoupleWithin:
    """Multiplies by a different matrix for every entry of a second axis, `along`: `write` and `read` are (entries, new, old).

    So each head can have its own rotation. As with `SelectWithin`, entries are those after `along` was mapped itself.
    """

    write: Tensor
    read: Tensor
    along: str

    def within(self, tensor: Tensor, dim: int, along: int, role: str) -> Tensor:
        """`tensor` with dimension `dim` multiplied by a separate matrix for each entry of dimension `along`."""
        matrices = (self.write if role == "write" else self.read).to(tensor)
        moved = tensor.movedim((along, dim), (0, -1))  # (entries, …, old)
        flat = moved.reshape(moved.shape[0], -1, moved.shape[-1]) @ matrices.transpose(1, 2)
        return flat.reshape(*moved.shape[:-1], -1).movedim((0, -1), (along, dim))


Map = Leading | Centre | Select | SelectWithin | Couple | CoupleWithin


def remap(weights: Mapping[str, Tensor], axes: Mapping[str, Axes], maps: Mapping[str, Map]) -> dict[str, Tensor]:
    """The parameters named in `axes`, with `maps` applied to every dimension on a mapped axis.

    Parameters of `weights` that `axes` does not name are left out. So the axes of a sub-network select its parameters from a
    supernet.

    Limits: without a map within heads, attention channels (`qk`, `v`) are mapped alike in all heads of a block. Dropping entries
    of `embed` changes the statistics of the norms and so is never exact.

    Raises:
        BadArtefact: a parameter is missing from `weights`.
        BadOption: a map within another axis, on a parameter that does not lie on that axis.
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

    `dims` (`axis_dims`) declare the possible pairs. A pair counts if every parameter on the first axis lies on the second too:
    then each head has its own channels. (The values of SLA are an exception, because all heads share their convolution.)
    """
    outer = {name: f"{name.rsplit('.', 1)[0]}.{dim.within}" for name, dim in dims.items() if dim.within is not None}
    together = [{axis.name for axis in dimensions if axis is not None} for dimensions in axes.values()]
    found = {name for names in together for name in names if name in outer}
    return {
        name: outer[name] for name in outer if name in found and all(outer[name] in n for n in together if name in n)
    }


def _mapped(tensor: Tensor, name: str, dimensions: Axes, maps: Mapping[str, Map]) -> Tensor:
    """One parameter after all maps; maps within another axis are applied last."""
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
        tensor = map_.within(tensor, dim, _place(dimensions, map_.along, role, name), role)
    return tensor


def _place(dimensions: Axes, along: str, role: str, parameter: str) -> int:
    """The dimension of a parameter that lies on `along`, of two the one in that role."""
    found = [dim for dim, axis in enumerate(dimensions) if axis is not None and axis.name == along]
    if found:
        return next((dim for dim in found if (axis := dimensions[dim]) and axis.role == role), found[0])
    raise BadOption(
        f"{parameter} does not lie on {along}, so that entries cannot be chosen within it; choose them alike"
    )
