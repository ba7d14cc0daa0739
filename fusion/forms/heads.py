"""Balancing heads: the two matrices of each head that meet on an axis keep only a rotation as their freedom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wb.models.axes import read, write
from wb.models.layers.operator import OperatorModule
from wb.models.walk import Sublayer


class Factor(NamedTuple):
    """One of two factors that meet on an axis: a weight and its bias if that lies on the axis. Local names."""

    weight: str
    bias: str | None


def factors_on(operator: OperatorModule, axis: str) -> tuple[Factor, Factor] | None:
    """The two weights that meet on an axis: two readers of the stream (queries, keys), or a reader and a writer (values, output).

    None if the axis allows no rotation or any other parameter lies on it.
    """
    if operator.symmetries.get(axis) != "rotation":
        return None
    found = [Factor(name, bias) for name, bias in operator.readers.items() if write(axis) in operator.axes[name]]
    found += [Factor(name, None) for name in operator.writers if read(axis) in operator.axes[name]]
    known = {name for factor in found for name in factor}
    others = [name for name, axes in operator.axes.items() if name not in known and {write(axis), read(axis)} & {*axes}]
    return (found[0], found[1]) if len(found) == 2 and not others else None


def balance_heads(weights: dict[str, Tensor], at: Sublayer, within: dict[str, str], ratio: float = 1.0) -> None:
    """Balances heads: equal Gram matrices of both factors, strongest channel first, for a stream scaled by `1/ratio`."""
    for axis in at.operator.symmetries:
        pair = factors_on(at.operator, axis)
        if pair is None:
            continue
        outer = within.get(f"{at.place}.{axis}")
        on = [axis] if outer is None else [outer.removeprefix(f"{at.place}."), axis]
        layouts = [_Layout(weights, at, factor, on, ratio) for factor in pair]
        for layout, matrix in zip(layouts, _balanced(*(layout.matrix() for layout in layouts)), strict=True):
            put(weights, at.prefix, layout.split(matrix))


@dataclass(frozen=True)
class _Layout:
    """A factor as one matrix per entry of the outer axis: (outer, axis, everything else and the bias); and back."""

    weights: dict[str, Tensor]
    at: Sublayer
    factor: Factor
    on: list[str]  # the outer axis, if there is one, then the axis
    ratio: float

    def matrix(self) -> Tensor:
        """(outer or 1, axis, everything else)."""
        parts = [self._moved(name) * share for name, share in self._parts]
        joint = torch.cat([part.reshape(*part.shape[: len(self.on)], -1) for part in parts], dim=-1)
        return joint if len(self.on) > 1 else joint[None]

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """The weight and its bias by local names, read back from a changed matrix."""
        found = {}
        start = 0
        for name, share in self._parts:
            like = self._moved(name)
            size = like[(0,) * len(self.on)].numel()
            part = matrix[..., start : start + size].reshape(like.shape) / share
            found[name] = part.movedim(list(range(len(self.on))), self._places(name))
            start += size
        return found

    @property
    def _parts(self) -> list[tuple[str, float]]:
        """The weight and its bias, each with its factor in the scaled stream: readers shrink, writers grow, biases stay."""
        share = self.ratio if self.factor.weight in self.at.operator.readers else 1 / self.ratio
        return [(name, s) for name, s in ((self.factor.weight, share), (self.factor.bias, 1.0)) if name is not None]

    def _moved(self, name: str) -> Tensor:
        tensor = self.weights[f"{self.at.prefix}.{name}"].double()
        return tensor.movedim(self._places(name), list(range(len(self.on))))

    def _places(self, name: str) -> list[int]:
        """The dimensions of a parameter that lie on these axes."""
        names = [axis and axis.name for axis in self.at.operator.axes[name]]
        return [names.index(axis) for axis in self.on]


def put(weights: dict[str, Tensor], prefix: str, changed: dict[str, Tensor]) -> None:
    """Puts parameters of one module, by local name, into `weights`, in the type that they had."""
    for name, weight in changed.items():
        weights[f"{prefix}.{name}"] = weight.to(weights[f"{prefix}.{name}"]).contiguous()


def _balanced(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Balances A, B (H, K, ·): the same product AᵀB, equal Gram matrices, strongest channel first."""
    qa, ra = torch.linalg.qr(a.transpose(1, 2))  # (H, ·, r), (H, r, K)
    qb, rb = torch.linalg.qr(b.transpose(1, 2))
    u, s, v = torch.linalg.svd(ra @ rb.transpose(1, 2), full_matrices=False)
    root = s.sqrt()[..., None]
    new = root * (qa @ u).transpose(1, 2), root * (v @ qb.transpose(1, 2))
    return _padded(new[0], a.shape[1]), _padded(new[1], a.shape[1])


def _padded(tensor: Tensor, channels: int) -> Tensor:
    """(H, r, ·) -> (H, channels, ·), padded with zero channels: the product's rank r may be lower."""
    return torch.nn.functional.pad(tensor, (0, 0, 0, channels - tensor.shape[1]))
