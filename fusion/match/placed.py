"""A parent under the reference's names: which of its sub-layers stand for which, and which parameters lie on which axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from wb.fusion.match.depth import Match, alike
from wb.fusion.match.match import By
from wb.models.axes import Axes, Axis, Map, remap
from wb.models.model import Model
from wb.models.network import axes_of, build
from wb.models.walk import Sublayer


@dataclass
class Placed:
    """A parent in canonical form. `names` (reference's -> own) and `axes` have what the reference has too, by its names.

    `sublayers` gives for each sub-layer of the reference, by name, that of the parent which stands for it. `turn` is the
    one thing that changes: the form of the parent, never its function. `by` says what the match was found by.
    """

    model: Model
    match: Match
    sublayers: Mapping[str, Sublayer]
    names: Mapping[str, str]
    axes: Mapping[str, Axes]
    by: By = "order"

    def weight(self, name: str) -> Tensor:
        """The parent's parameter for that of the reference."""
        return self.model.weights[self.names[name]]

    def mapped(self, name: str, maps: Mapping[str, Map]) -> Tensor:
        """The parent's parameter for that of the reference, on the reference's axes as far as `maps` go."""
        return remap({name: self.weight(name)}, {name: self.axes[name]}, maps)[name]

    def release(self, name: str) -> None:
        """Takes the parameter out of the parent, whose weights have to be a dictionary of one's own: nobody can use it then."""
        if name in self.names and isinstance(self.model.weights, dict):
            self.model.weights.pop(self.names[name], None)

    def turn(self, maps: Mapping[str, Map]) -> None:
        """Applies maps that keep the function, by the reference's names of axes."""
        changed = {
            self.names[name]: self.mapped(name, maps)
            for name, axes in self.axes.items()
            if any(axis is not None and axis.name in maps for axis in axes)
        }
        self.model = replace(self.model, weights={**self.model.weights, **changed})


def place(parent: Model, reference: Model, match: Match, by: By = "order") -> Placed:
    """`parent` under the names of `reference`, both in canonical form.

    A sub-layer of another kind, or with other fixed settings (a kernel size, a direction), stands for nothing.
    """
    own, other = build(parent.architecture, "meta"), build(reference.architecture, "meta")
    there = {sublayer.name: sublayer for sublayer in own.walk()}
    axes = axes_of(own)
    names: dict[str, str] = {}
    placed: dict[str, Axes] = {}
    found: dict[str, Sublayer] = {}
    for name, dimensions in axes.items():
        if not name.startswith("stages."):
            names[name], placed[name] = name, dimensions
    for sublayer in other.walk():
        block = match[sublayer.stage][sublayer.block]
        mine = there.get(f"s{sublayer.stage}.b{block}.{sublayer.kind}")
        if mine is None or not alike(mine.operator.describe(), sublayer.operator.describe(), "scale"):
            continue
        found[sublayer.name] = mine
        for prefix, new in ((mine.prefix, sublayer.prefix), (mine.norm_prefix, sublayer.norm_prefix)):
            for name in [name for name in axes if name.startswith(f"{prefix}.")]:
                renamed = f"{new}{name.removeprefix(prefix)}"
                names[renamed] = name
                placed[renamed] = tuple(_moved(axis, mine.place, sublayer.place) for axis in axes[name])
    return Placed(parent, match, found, names, placed, by)


def _moved(axis: Axis | None, old: str, new: str) -> Axis | None:
    """`s0.b3.heads` -> `s0.b1.heads`."""
    if axis is None or not axis.name.startswith(f"{old}."):
        return axis
    return axis._replace(name=f"{new}{axis.name.removeprefix(old)}")


def runs(placed: Placed, reference: Model) -> tuple[dict[int, list[str]], dict[str, list[str]]]:
    """The names of the parent's sub-layers in order of execution, grouped by what they stand for.

    First those at the start of a stage that stand for nothing, by the stage; then for each sub-layer of the reference its
    counterpart and what follows that and stands for nothing: what they do together is what the reference's has to do.
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
