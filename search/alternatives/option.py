"""The alternatives of a sub-layer, as sizes of its axes: fewer heads, ranks of keys and values, fewer hidden units, nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field

from wb.compress.nvit.bases import kinds_of
from wb.core.architecture import Architecture, kind_of_axis, resize
from wb.core.precision import TRAINED
from wb.core.records import Frozen, Mixer
from wb.core.records.base import is_none
from wb.models.axes import Axis, Leading, Map, Select
from wb.models.layers.convolution import BatchNormed
from wb.models.walk import Sublayer

WHOLE, NONE = "whole", "none"
# Of queries and keys, and of values: one in so many channels stays. In their bases most of wide heads do next to nothing.
RANKS = tuple((2 ** ((i + 1) // 2), 2 ** (i // 2)) for i in range(20))
LEAST, LEAST_VALUES = 2, 4  # channels of a head; of its values a quarter where that is less
SHARES = tuple(map(Fraction, ("3/4", "5/8", "1/2", "3/8", "1/4", "3/16", "1/8", "3/32", "1/16", "1/32")))  # of units
DENSE_HEADS = 8  # above it only every second number of heads

Unit = Literal["heads", "mlp"]


class Size(NamedTuple):
    """How much of a sub-layer is left: so many units, and of each head so many channels."""

    units: int
    qk: int | None = None
    v: int | None = None


class Option(Frozen):
    """One alternative of the sub-layer `slot`.

    Of the axis `unit` the entries `kept` stay, and of each head the leading `qk` and `v` channels. `error` is what it gives
    beside what the sub-layer gave: the mean square of the difference, as a share of the variance. With `mixer` that one is in
    its place. Without either it is the sub-layer as it is, or nothing.
    """

    slot: str
    name: str
    unit: Unit | None = None
    kept: tuple[int, ...] = ()
    qk: int | None = None
    v: int | None = None
    mixer: Annotated[Mixer | None, Field(exclude_if=is_none)] = None
    error: Annotated[float, Field(ge=0)] = 0.0

    @property
    def fitted(self) -> bool:
        """Whether it has a writer of its own."""
        return self.unit is not None or self.mixer is not None

    def applied(self, architecture: Architecture) -> Architecture:
        """The architecture with it; `architecture` itself where it is the sub-layer as it is, or nothing."""
        return resize(with_mixer(architecture, self.slot, self.mixer) if self.mixer else architecture, self.sizes)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the axes that it changes, by their global names."""
        place = self.slot.rsplit(".", 1)[0]
        found = {} if self.unit is None else {self.unit: len(self.kept), "qk": self.qk, "v": self.v}
        return {f"{place}.{kind}": size for kind, size in found.items() if size is not None}

    @property
    def maps(self) -> dict[str, Map]:
        """What makes it of the model's axes, by their global names."""
        if self.unit is None:
            return {}
        return {
            axis: Select(torch.tensor(self.kept)) if kind_of_axis(axis) == self.unit else Leading(size)
            for axis, size in self.sizes.items()
        }


def with_mixer(architecture: Architecture, slot: str, mixer: Mixer) -> Architecture:
    """The architecture with another mixer in one place."""
    return architecture.with_parts(lambda name, part: mixer if name == slot else part)  # type: ignore[arg-type]


def unit_of(at: Sublayer) -> Unit | None:
    """What there can be fewer of in a sub-layer without its other outputs changing; None if there is nothing of the kind.

    Limits: sub-layers with one writer, a linear map whose weights are not of one or two bits. A squeeze looks at all hidden
    units at once, and a convolution of more than one place is no map of single tokens: of these only nothing is an alternative.
    """
    operator = at.operator
    if len(operator.writers) != 1:
        return None
    ((writer, _),) = operator.writers.items()
    axes = [axis.name for axis in operator.axes[writer][1:] if isinstance(axis, Axis)]
    if {operator.precision(name) for name in (writer, *operator.readers)} & set(TRAINED) or set(axes) & set(
        operator.averaged
    ):
        return None
    if isinstance(operator, BatchNormed) and (getattr(operator.record, "se", None) or operator.axes[writer][2:]):
        return None
    found: Unit | None = {("heads", "v"): "heads", ("mlp",): "mlp"}.get(tuple(axes))  # type: ignore[assignment]
    return found if found is not None and found in operator.symmetries else None


def sizes(at: Sublayer, align: int) -> Iterator[Size]:
    """The sizes that the alternatives of a sub-layer have, the largest first, without the one that it has."""
    unit = unit_of(at)
    if unit is None:
        return
    have = at.operator.sizes
    whole = have[unit]
    if unit == "mlp":
        shares = (max(1, math.ceil(whole * share / align) * align) for share in SHARES)
        yield from (Size(n) for n in dict.fromkeys(shares) if n < whole)
        return
    kinds = kinds_of(at.operator, ())
    heads = [n for n in range(whole, 0, -1) if whole <= DENSE_HEADS or (whole - n) % 2 == 0 or n == 1]
    ranks = dict.fromkeys((_rank(have, "qk", k, kinds), _rank(have, "v", v, kinds)) for k, v in RANKS)
    for n, (qk, v) in itertools.product(heads, ranks):
        if (n, qk or have.get("qk"), v or have["v"]) != (whole, have.get("qk"), have["v"]):
            yield Size(n, qk, v)


def _rank(have: Mapping[str, int], kind: str, of: int, kinds: list[str]) -> int | None:
    """So many channels, or None where they have no order, so that all stay."""
    least = max(LEAST, min(LEAST_VALUES, have[kind] // 4)) if kind == "v" else LEAST
    return max(min(least, have[kind]), have[kind] // of) if kind in kinds else None


def name_of(size: Size, unit: Unit) -> str:
    """What people are told: `2 heads, qk 8, v 16`; `96 units`."""
    if unit == "mlp":
        return f"{size.units} units"
    channels = "".join(f", {kind} {n}" for kind, n in (("qk", size.qk), ("v", size.v)) if n is not None)
    return f"{size.units} head{'s' * (size.units != 1)}{channels}"
