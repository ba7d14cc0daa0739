"""Similarity of two networks along an axis: inner products of weights or activations over all other dimensions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from wb.fusion.align.solvers import Kind, Matrix, assignment, rotations
from wb.fusion.match.placed import Placed
from wb.models.axes import Axes, CoupleWithin, Map
from wb.models.model import Model

FIXED = "classes"  # classes are matched by name beforehand, so that this axis never needs a map
_FLAT = 1e-12  # a variance below counts as zero


def usable(axes: Mapping[str, Axes], axis: str, known: Collection[str]) -> Iterator[str]:
    """The parameters on `axis` whose other axes are all `known`, so that they can be compared between the networks."""
    for name, dimensions in axes.items():
        names = [on.name for on in dimensions if on is not None and on.role != "side"]
        if axis in names and all(other in (axis, FIXED) or other in known for other in names):
            yield name


def contract(a: Tensor, b: Tensor, dimensions: Axes, axis: str) -> Tensor:
    """Inner products of the entries of two parameters on `axis`, over all other dimensions: (source, reference)."""
    dim = _dim(dimensions, axis)
    return a.movedim(dim, 0).flatten(1) @ b.movedim(dim, 0).flatten(1).T if a.dim() > 1 else torch.outer(a, b)


def shared(a: Tensor, b: Tensor, dimensions: Axes, halves: Mapping[str, bool]) -> Tensor:
    """`a`, scaled to its size after the axes in `halves` are mapped evenly from its own sizes to those of `b`.

    Where one entry becomes k entries, a reader gets 1/k of its weight. Where `halves` is true, writer and reader get √(1/k) each.
    """
    factor = 1.0
    for dim, on in enumerate(dimensions):
        if on is not None and on.name in halves:
            exponent = 0.5 if halves[on.name] else float(on.role == "read")
            factor *= (a.shape[dim] / b.shape[dim]) ** exponent
    return a if factor == 1 else a * factor


def norms(weight: Tensor, dimensions: Axes, axis: str) -> Tensor:
    """The squared norm of each entry on `axis`."""
    dim = _dim(dimensions, axis)
    return weight.double().movedim(dim, 0).reshape(weight.shape[dim], -1).square().sum(dim=1)


@dataclass
class Statistics:
    """Sums of two networks' activations over calibration tokens, by the reference's axes; one pass fills them.

    By axis: `products` of activations (source, reference), or (heads, heads, source, reference) for channels within heads; `sums`
    and `squares` of both sides; `rows`, the number of tokens.
    """

    products: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    squares: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, axis: str, a: Tensor, b: Tensor) -> None:
        """Adds activations (rows, source) and (rows, reference) of one place."""
        self._count(axis, a, b)
        self._sum(axis, (a.T @ b).double())

    def add_heads(self, axis: str, a: Tensor, b: Tensor) -> None:
        """Adds activations (rows, heads, channels) of one place, for both networks."""
        self._count(axis, a.flatten(1), b.flatten(1))
        products = (a.flatten(1).T @ b.flatten(1)).double()
        self._sum(axis, products.reshape(*a.shape[1:], *b.shape[1:]).permute(0, 2, 1, 3))

    def similarity(self, axis: str, *, standard: bool) -> tuple[Tensor, Matrix, Matrix]:
        """Inner products and squared norms; with `standard`, correlations: activations of mean zero and variance one."""
        products, n = self.products[axis], self.rows[axis]
        if not standard:
            own, other = (part.numpy() for part in self.squares[axis])
            return products, own, other
        (a, b), (aa, bb) = self.sums[axis], self.squares[axis]
        spread = [(square / n - (total / n) ** 2).clamp(min=0) for total, square in ((a, aa), (b, bb))]
        scale = [torch.where(s > _FLAT, s, torch.inf).rsqrt() for s in spread]
        correlation = (products / n - torch.outer(a / n, b / n)) * torch.outer(*scale)
        own, other = (np.asarray((s > 0).double()) for s in scale)
        return correlation, own, other

    def _count(self, axis: str, a: Tensor, b: Tensor) -> None:
        a, b = a.double(), b.double()
        sums, squares = (a.sum(0), b.sum(0)), (a.square().sum(0), b.square().sum(0))
        for table, new in ((self.sums, sums), (self.squares, squares)):
            old = table.get(axis)
            table[axis] = new if old is None else (old[0] + new[0], old[1] + new[1])
        self.rows[axis] = self.rows.get(axis, 0) + len(a)

    def _sum(self, axis: str, products: Tensor) -> None:
        self.products[axis] = self.products[axis] + products if axis in self.products else products


@dataclass(frozen=True)
class Heads:
    """Comparison of the heads on `axis`; `within_kinds` maps the axes of what lies within them to the symmetry of each."""

    source: Placed
    reference: Model
    axis: str
    within_kinds: Mapping[str, Kind]
    maps: Mapping[str, Map]
    statistics: Statistics | None = None
    known: dict[str, tuple[Tensor, Matrix, Matrix]] = field(default_factory=dict, repr=False)

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The axes all of whose parameters lie on another one within heads too: queries that share keys and values."""
        on = [{*_names(axes)} & self.within_kinds.keys() for axes in self.source.axes.values()]
        return tuple(name for name in self.within_kinds if all(len(names) > 1 for names in on if name in names))

    def cost(self) -> Matrix:
        """The squared distance of every two heads after the best map of their channels: (source, reference)."""
        total: Matrix | float = 0.0
        for name, kind in self.within_kinds.items():
            if name not in self.units:
                products, own, other = self.channels(name)
                total = total + self.weighed(least(products, own, other, kind), own, other)
        for name in self._whole():
            a, b, dimensions = self.pair(name)
            common = contract(a, b, dimensions, self.axis).double().numpy()
            own, other = (norms(w, dimensions, self.axis).numpy() for w in (a, b))
            total = total + own[:, None] + other[None, :] - 2 * common
        return np.asarray(total, dtype=np.float64).clip(min=0)

    def weighed(self, part: Matrix, own: Matrix, other: Matrix) -> Matrix:
        """A part of the distance; where activations are compared it is relative to the squared norms (heads, n) of both sides."""
        size = own.sum(1).mean() + other.sum(1).mean() if self.statistics is not None else 1.0
        return part / (size or 1.0)

    def within(self, name: str, plan: Matrix) -> Tensor:
        """Inner products of channels, averaged over the source heads of each reference head: (heads, source, reference)."""
        products = self.channels(name)[0].double()
        share = torch.from_numpy(plan / plan.sum(axis=0))
        return torch.einsum("ij,ijkl->jkl", share, products)

    def apart(self, name: str, plan: Matrix) -> Tensor:
        """Squared distances of channels, averaged in the same way as `within`."""
        _, own, other = self.channels(name)
        mean = (plan / plan.sum(axis=0)).T @ own
        return torch.from_numpy(mean[:, :, None] + other[:, None, :]) - 2 * self.within(name, plan)

    def turned(self, plan: Matrix, cost: Matrix) -> Heads:
        """Rotates source heads that merge into one reference head towards the nearest of them, so that they can be averaged.

        The source's function does not change.
        """
        nearest = nearest_of(plan, cost)
        for name, kind in self.within_kinds.items():
            if kind == "rotation":
                q = rotations(self._own_channels(name, nearest)).transpose(1, 2)
                self.source.turn({name: CoupleWithin(q, q, self.axis)})
                if self.statistics is not None and name in self.statistics.products:
                    products = self.statistics.products[name]
                    self.statistics.products[name] = torch.einsum("ikm,ijml->ijkl", q, products)
        return replace(self, known={})

    def _own_channels(self, name: str, nearest: Matrix) -> Tensor:
        """Inner products of each source head's channels with those of its `nearest` head: (heads, channels, channels)."""
        total: Tensor | float = 0.0
        for parameter in self._parameters(name):
            own = flat(self.source.weight(parameter).double(), self.source.axes[parameter], self.axis, name)
            total = total + torch.einsum("hkr,hlr->hkl", own, own[torch.from_numpy(nearest)])
        return torch.as_tensor(total)

    def channels(self, name: str) -> tuple[Tensor, Matrix, Matrix]:
        """Inner products (source heads, reference heads, channels, channels), and squared norms (heads, channels)."""
        if name not in self.known:
            self.known[name] = self._compared(name)
        return self.known[name]

    def _compared(self, name: str) -> tuple[Tensor, Matrix, Matrix]:
        if self.statistics is not None and name in self.statistics.products:
            products = self.statistics.products[name]
            heads, others, own_channels, channels = products.shape
            one, two = self.statistics.squares[name]
            ratio = heads / others if self._balanced(name) else 1.0
            ratio *= own_channels / channels if self.within_kinds[name] == "paired" else 1.0
            return (
                products * ratio**0.5,
                np.asarray(ratio * one.reshape(heads, -1)),
                np.asarray(two.reshape(others, -1)),
            )
        total: Tensor | float = 0.0
        own: Matrix | float = 0.0
        other: Matrix | float = 0.0
        for parameter in self._parameters(name):
            a, b, dimensions = self.pair(parameter)
            x, y = flat(a, dimensions, self.axis, name), flat(b, dimensions, self.axis, name)
            total = total + (x.flatten(0, 1) @ y.flatten(0, 1).T).reshape(*x.shape[:2], *y.shape[:2]).permute(
                0, 2, 1, 3
            )
            own, other = own + x.double().square().sum(2).numpy(), other + y.double().square().sum(2).numpy()
        return torch.as_tensor(total), np.asarray(own), np.asarray(other)

    def _parameters(self, name: str) -> list[str]:
        """Those by which an axis within heads is compared: they lie on no other such axis."""
        known = {*self.maps, *self.source.fixed, self.axis} - {*self.within_kinds}
        return list(usable(self.source.axes, name, known))

    def _whole(self) -> list[str]:
        """Parameters on the heads' axis that lie on no axis within heads."""
        found = usable(self.source.axes, self.axis, {*self.maps, *self.source.fixed} - set(self.within_kinds))
        if self.statistics is not None:
            return []
        return [p for p in found if not set(_names(self.source.axes[p])) & set(self.within_kinds)]

    def pair(self, parameter: str, but: Collection[str] = ()) -> tuple[Tensor, Tensor, Axes]:
        """A parameter of both, on the same streams, scaled for other sizes of heads and of what lies within, `but` for these."""
        dimensions = self.source.axes[parameter]
        known = {name: map_ for name, map_ in self.maps.items() if name not in (self.axis, *self.within_kinds)}
        a, b = self.source.mapped(parameter, known), self.reference.weights[parameter]
        names = [name for name in _names(dimensions) if name in self.within_kinds]
        halves = {
            n: self.within_kinds[n] == "paired" for n in names if n not in but and self.within_kinds[n] != "rotation"
        }
        return shared(a, b, dimensions, {**halves, self.axis: any(map(self._balanced, names))}), b, dimensions

    def _balanced(self, name: str) -> bool:
        """Whether splitting or merging heads scales writers and readers of these channels by the same factor."""
        return self.within_kinds[name] == "rotation" and self.source.is_read(name)


def least(products: Tensor, own: Matrix, other: Matrix, kind: str) -> Matrix:
    """The least squared distance that any map of the channels reaches, for every two heads: (source, reference)."""
    if kind == "rotation":
        best = np.asarray(torch.linalg.svdvals(products.double()).sum(dim=-1))
        return np.asarray(own.sum(1)[:, None] + other.sum(1)[None, :] - 2 * best)
    values = products.double().numpy()
    found = np.zeros(values.shape[:2])
    for i, j in np.ndindex(found.shape):
        apart = own[i][:, None] + other[j][None, :] - 2 * values[i, j]
        found[i, j] = (apart * assignment(apart)).sum()
    return found


def nearest_of(plan: Matrix, cost: Matrix) -> Matrix:
    """For each source head that which is nearest to the reference head it goes to, of all that go there."""
    return np.asarray(np.where(plan > 0, cost, np.inf).argmin(axis=0)[plan.argmax(axis=1)])


def flat(weight: Tensor, dimensions: Axes, outer: str, inner: str) -> Tensor:
    """The weight as (outer, inner, everything else)."""
    moved = weight.movedim((_dim(dimensions, outer), _dim(dimensions, inner)), (0, 1))
    return moved.reshape(*moved.shape[:2], -1)


def _names(dimensions: Axes) -> list[str]:
    return [on.name for on in dimensions if on is not None]


def _dim(dimensions: Axes, axis: str) -> int:
    return _places(dimensions).index(axis)


def _places(dimensions: Axes) -> list[str | None]:
    return [None if on is None else on.name for on in dimensions]
