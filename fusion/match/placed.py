"""Placing a parent on a reference: its matching sub-layers, parameters and axes under the names of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from wb.core.architecture import axis_dims
from wb.core.records import Dim
from wb.fusion.forms.canonical import unit_gains
from wb.fusion.match.depth import Match, alike
from wb.fusion.match.match import By
from wb.models.axes import Axes, Axis, Map, remap
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import build
from wb.models.walk import Sublayer


@dataclass
class Placed:
    """A parent in canonical form, with its parts named as in the reference.

    `sublayers` maps a sub-layer of the reference, by name, to the matching one of the parent. `names` maps a parameter of the
    reference to that of the parent, and `axes` to the axes of the parent's parameter, under the reference's names. Parameters
    without a counterpart are missing. `dims` describes the axes. `by` names the rule that found the match. `turn` changes the
    form of the parent, never its function.
    """

    model: Model
    match: Match
    sublayers: Mapping[str, Sublayer]
    names: Mapping[str, str]
    axes: Mapping[str, Axes]
    dims: Mapping[str, Dim]
    by: By = "order"

    @property
    def fixed(self) -> frozenset[str]:
        """The axes whose entries stay where they are: coefficients of a basis."""
        return frozenset(axis for axis, dim in self.dims.items() if dim.fitted)

    def is_read(self, axis: str) -> bool:
        """Whether a weight reads the axis; queries and keys are only written, and meet in a product."""
        return any(Axis(axis, "read") in dimensions for dimensions in self.axes.values())

    def weight(self, name: str) -> Tensor:
        """The parent's parameter that matches the reference's parameter `name`."""
        return self.model.weights[self.names[name]]

    def mapped(self, name: str, maps: Mapping[str, Map]) -> Tensor:
        """The parent's parameter that matches the reference's `name`, brought to the reference's axes by `maps`."""
        return remap({name: self.weight(name)}, {name: self.axes[name]}, maps)[name]

    def release(self, name: str) -> None:
        """Deletes the matching parameter from the parent, to free memory; the weights must be a dictionary that is not shared."""
        if name in self.names and isinstance(self.model.weights, dict):
            self.model.weights.pop(self.names[name], None)

    def turn(self, maps: Mapping[str, Map]) -> None:
        """Applies function-preserving `maps`, by the reference's names of axes, to the parent."""
        changed = {
            self.names[name]: self.mapped(name, maps)
            for name, axes in self.axes.items()
            if any(axis is not None and axis.name in maps for axis in axes)
        }
        self.model = replace(self.model, weights={**self.model.weights, **changed})


def place(parent: Model, reference: Model, match: Match, by: By = "order", *, folded: bool = True) -> Placed:
    """Places `parent` on `reference`, both in canonical form; where norms are not `folded`, both as they are.

    Sub-layers that differ in kind, join or fixed settings (kernel size, direction) do not match, even in matching blocks.
    Gains that are one in all networks have no counterpart: there is nothing to compare, and the reference's stay.
    """
    own, other = build(parent.architecture, "meta"), build(reference.architecture, "meta")
    there = {sublayer.name: sublayer for sublayer in own.walk()}
    axes = axes_of(own)
    names: dict[str, str] = {}
    placed: dict[str, Axes] = {}
    found: dict[str, Sublayer] = {}
    ones = unit_gains(own) if folded else set()
    for name, dimensions in axes.items():
        if not name.startswith("stages.") and name not in ones:
            names[name], placed[name] = name, dimensions
    for sublayer in other.walk():
        block = match[sublayer.stage][sublayer.block]
        mine = there.get(f"s{sublayer.stage}.b{block}.{sublayer.kind}")
        if mine is None or not _alike(mine, sublayer):
            continue
        found[sublayer.name] = mine
        for prefix, new in zip(mine.prefixes, sublayer.prefixes, strict=True):
            for name in [name for name in axes if name.startswith(f"{prefix}.") and name not in ones]:
                renamed = f"{new}{name.removeprefix(prefix)}"
                names[renamed] = name
                placed[renamed] = tuple(_moved(axis, mine.place, sublayer.place) for axis in axes[name])
    return Placed(parent, match, found, names, placed, axis_dims(reference.architecture), by)


def _alike(mine: Sublayer, theirs: Sublayer) -> bool:
    """Whether two sub-layers differ at most in widths and in numbers that weights could take over."""
    joins = [None if at.join is None else at.join.record.structure() for at in (mine, theirs)]
    operators = [at.operator.describe().structure() for at in (mine, theirs)]
    return joins[0] == joins[1] and alike(*operators)


def _moved(axis: Axis | None, old: str, new: str) -> Axis | None:
    """`s0.b3.heads` -> `s0.b1.heads`."""
    if axis is None or not axis.name.startswith(f"{old}."):
        return axis
    return axis._replace(name=f"{new}{axis.name.removeprefix(old)}")


def runs(placed: Placed, reference: Model) -> tuple[dict[int, list[str]], dict[str, list[str]]]:
    """Groups the names of the parent's sub-layers, in order of execution, by the sub-layers of the reference.

    The first result maps a stage to the unmatched sub-layers at its start. The second maps a sub-layer of the reference to its
    counterpart and the unmatched sub-layers after that: the reference's sub-layer has to do what they do together.
    """
    theirs = {mine.name: name for name, mine in placed.sublayers.items()}
    starts: dict[int, list[str]] = {i: [] for i in range(len(reference.architecture.stages))}
    groups: dict[str, list[str]] = {at.name: [] for at in build(reference.architecture, "meta").walk()}
    current: list[str] = []
    stage = -1
    for mine in build(placed.model.architecture, "meta").walk():
        if mine.stage != stage:
            stage, current = mine.stage, starts[mine.stage]
        if mine.name in theirs:
            current = groups[theirs[mine.name]]
        current.append(mine.name)
    return starts, groups
