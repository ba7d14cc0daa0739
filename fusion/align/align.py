"""Alignment: maps that bring a parent to the axes of a reference, found from the similarity of weights or activations.

Each residual stream gets one map, for all weights that read and write it. Heads are assigned to heads, and each pair of heads
gets maps for its channels, and for the queries that share its keys and values, if there are several. Hidden units are assigned or
transported. Everything is derived from the axes of the parameters and the symmetries that operators declare.

Source: Ainsworth et al., "Git Re-Basin", 2023 (coordinate ascent on weights); Theus et al., "Generalized Linear Mode
Connectivity for Transformers", 2025, https://arxiv.org/abs/2506.22712 (one rotation of the stream, heads on circuits).
Differs: widths, depths and numbers of heads may be unequal; any operator; heads are compared at their best rotation, so that
the form of a head does not matter; activations need one pass.
Limits: coordinate ascent finds a local optimum, which depends on the choice of the reference. Widths of a stem, and of norms
before operators without parameters, are always aligned by weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wb.core.architecture import axis_sizes
from wb.core.records import dims
from wb.fusion.align.grouped import compared_now, cost, gauge, turned
from wb.fusion.align.similarity import Heads, Statistics, contract, norms, shared, usable
from wb.fusion.align.solvers import (
    REGULARISATION,
    Kind,
    Matrix,
    couple,
    couplings,
    matched,
    matrices,
    shown,
    stream_rotation,
    within_heads,
)
from wb.fusion.forms.canonical import centred, foldable
from wb.fusion.match.depth import Match
from wb.fusion.match.match import By
from wb.fusion.match.placed import Placed
from wb.fusion.settings import Solver
from wb.models.axes import Map, Select, nested
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import build

ITERATIONS = 20
TOLERANCE = 1e-2  # rounds stop once one gains less than this share of the remaining distance
ROUNDING = 1e-13  # or less than this share of the largest possible similarity
SETTLED = 1  # a plan of heads that did not change so many times is final


@dataclass
class Alignment:
    """The result of an alignment: by axis of the reference, the map, the plan for display, and the distance before and after.

    Plans (source, reference) are shrunk to at most `SHOWN` entries per side by averaging neighbours, since plans of large axes
    would be larger than the model. A distance is |a - b|² / (|a|² + |b|²) over all parameters on the axis: 0 for equal
    networks, about 1 for unrelated ones.
    """

    maps: dict[str, Map] = field(default_factory=dict)
    plans: dict[str, Matrix] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)  # distances without maps; only if all sizes are equal
    costs: dict[str, float] = field(default_factory=dict)  # distances with the maps
    match: Match = ()  # matching blocks; () if they are matched in order
    by: By = "order"  # the rule that found the match
    rounds: int = 0


@dataclass
class Aligner:
    """Aligns one placed parent to a reference, both in canonical form: by `statistics` of activations if given, else weights."""

    source: Placed
    reference: Model
    rotate: bool = True
    solver: Solver = "lap"
    reg: float = REGULARISATION
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        self.network = build(self.reference.architecture, "meta")
        self.statistics_of_norms = set(self.network.statistics())
        self.kinds = _kinds(self.reference, self.source, rotate=self.rotate)
        both = self.network, build(self.source.model.architecture, "meta")
        stages = range(len(self.network.stages))
        self.centred = {f"s{i}.embed" for i in stages if any(centred(network, i) for network in both)}
        inside = nested(axes_of(self.network), self.source.dims)
        self.found = Alignment()
        for axis in [axis for axis in inside if axis in self.kinds and self._single(axis)]:
            self.found.maps[axis] = Select(torch.zeros(1, dtype=torch.int64))  # there is nothing to choose
            del self.kinds[axis]
        self.nested = {axis: outer for axis, outer in inside.items() if axis in self.kinds}
        self.settled: dict[str, tuple[Matrix, int]] = {}  # axis -> plan of heads, and how often it did not change
        own, wanted = axis_sizes(self.source.model.architecture), axis_sizes(self.reference.architecture)
        for name, sublayer in self.source.sublayers.items():
            for width, dim in dims(type(sublayer.operator.record)).items():
                old, axis = own[f"{sublayer.place}.{width}"], f"{name.rsplit('.', 1)[0]}.{width}"
                if dim.fitted and old != wanted[axis]:
                    self.found.maps[axis] = sublayer.operator.converted(width, old, wanted[axis])

    def __call__(self) -> Alignment:
        """The alignment: rounds over all axes until the similarity stops growing; a single round with `statistics`."""
        self.found.match, self.found.by = self.source.match, self.source.by
        if all(self.source.weight(name).shape == self.reference.weights[name].shape for name in self.source.axes):
            self.found.before = self._distances()
        before = -np.inf
        for _ in range(ITERATIONS):
            self.found.rounds += 1
            steps = [self._step(axis) for axis in self.kinds if axis not in self.nested]
            common, most = (sum(part) for part in zip(*steps, strict=True))
            if self.statistics is not None or common - before <= max(TOLERANCE * (most - common), ROUNDING * most):
                break
            before = common
        self.found.costs = self._distances()
        return self.found

    def _single(self, axis: str) -> bool:
        """Whether an axis has one entry in both networks."""
        sizes = {
            tensor.shape[dim]
            for name, dimensions in self.source.axes.items()
            for dim, on in enumerate(dimensions)
            if on is not None and on.name == axis
            for tensor in (self.source.weight(name), self.reference.weights[name])
        }
        return sizes == {1}

    def _step(self, axis: str) -> tuple[float, float]:
        """Finds the map of one axis, given the others; returns the similarity and its largest possible value (0 off streams)."""
        if axis in self.nested.values():
            self._heads(axis)
            return 0.0, 0.0
        kind = self.kinds[axis]
        map_: Map
        similarity, own, other = self._similarity(axis)
        if kind == "rotation":
            turn = map_ = stream_rotation(similarity, centred=axis in self.centred)
            self.found.plans[axis] = shown(turn.read.T.numpy())
        else:
            map_, self.found.plans[axis] = matched(
                similarity, own, other, self.solver, self.reg, paired=kind == "paired"
            )
        self.found.maps[axis] = map_
        if not axis.endswith(".embed"):
            return 0.0, 0.0
        read = matrices(map_, similarity.shape)[1]
        return float((similarity.double() * read.double().T).sum()), float(own.sum() + other.sum()) / 2

    def _similarity(self, axis: str) -> tuple[Tensor, Matrix, Matrix]:
        """Inner products of the axis's entries (source, reference), and squared norms of both sides' entries (n,).

        Summed over all parameters on the axis, or over activations.
        """
        if self.statistics is not None and axis in self.statistics.products:
            return self.statistics.similarity(axis, standard=self.kinds[axis] != "rotation")
        total: Tensor | None = None
        own: Tensor | float = 0.0
        other: Tensor | float = 0.0
        others = {name: map_ for name, map_ in self.found.maps.items() if name != axis}
        for name in usable(self.source.axes, axis, {*self.found.maps, *self.source.fixed}):
            if name in self.statistics_of_norms:
                continue  # they follow from weights and images, and what is positive everywhere tells little apart
            dimensions = self.source.axes[name]
            a, b = self.source.mapped(name, others), self.reference.weights[name]
            if self.kinds[axis] != "rotation":
                a = shared(a, b, dimensions, {axis: self.kinds[axis] == "paired"})
            product = contract(a, b, dimensions, axis)
            total = product if total is None else total.add_(product)
            del product  # frees memory: it is as large as the axis squared
            own, other = own + norms(a, dimensions, axis), other + norms(b, dimensions, axis)
        if total is None:
            raise ValueError(f"nothing on {axis} can be compared")
        return total, torch.as_tensor(own).numpy(), torch.as_tensor(other).numpy()

    def _heads(self, axis: str) -> None:
        """Assigns heads to heads, and finds the maps of the channels within heads."""
        within = {name: self.kinds[name] for name, outer in self.nested.items() if outer == axis}
        heads = Heads(self.source, self.reference, axis, within, self.found.maps, self.statistics)
        plan, times = self.settled.get(axis, (np.zeros(0), 0))
        if times < SETTLED:  # comparing all heads at their best rotation is the slowest step
            apart = cost(heads)
            new = couplings(apart, "lap")
            self.settled[axis] = new, times + 1 if np.array_equal(plan, new) else 0
            plan = new
            if plan.shape[0] > plan.shape[1]:
                heads = turned(heads, plan, apart)
        self.found.plans[axis] = shown(plan)
        self.found.maps[axis] = couple(plan)
        channels = [name for name in within if name not in heads.units]
        for name in channels:
            compared = heads.within(name, plan) if within[name] == "rotation" else heads.apart(name, plan)
            self._settle(heads, name, compared, plan)
        for name in heads.units:
            self._settle(heads, name, compared_now(heads, name), plan)
        for name in channels if heads.units and self.statistics is None else ():  # by the weights of units too
            self._settle(heads, name, compared_now(heads, name), plan)

    def _settle(self, heads: Heads, name: str, compared: Tensor, plan: Matrix) -> None:
        """Takes the best map of what lies within heads, which are coupled by `plan`."""
        sizes = _gauge(plan) * gauge(heads) if self.source.is_read(name) else None
        self.found.maps[name], plan_within = within_heads(compared, heads.within_kinds[name], heads.axis, sizes)
        self.found.plans[name] = shown(plan_within)

    def _distances(self) -> dict[str, float]:
        """Axis -> distance of the parameters on it, with the maps found so far."""
        difference, size = dict.fromkeys(self.kinds, 0.0), dict.fromkeys(self.kinds, 0.0)
        for name, dimensions in self.source.axes.items():
            a, b = self.source.mapped(name, self.found.maps), self.reference.weights[name]
            apart, both = float((a - b).double().square().sum()), float(a.square().sum() + b.square().sum())
            for axis in {on.name for on in dimensions if on is not None} & self.kinds.keys():
                difference[axis] += apart
                size[axis] += both
        return {axis: difference[axis] / size[axis] if size[axis] else 0.0 for axis in self.kinds}


def _gauge(plan: Matrix) -> Tensor:
    """Per reference head: the factor that keeps |W_v| = |W_o| when heads are split or merged, (heads,)."""
    shares = plan.sum(axis=1, keepdims=True)
    return torch.from_numpy((plan / shares).sum(axis=0)).sqrt()


def _kinds(reference: Model, source: Placed, *, rotate: bool) -> dict[str, Kind]:
    """Axis that both have -> the kind of map that it may get, in order of execution."""
    one, other = build(reference.architecture, "meta"), build(source.model.architecture, "meta")
    kinds: dict[str, Kind] = {}
    present = {axis.name for dimensions in source.axes.values() for axis in dimensions if axis is not None}
    written = {(a.name, a.role) for dimensions in source.axes.values() for a in dimensions if a is not None}
    bears = {
        f"{name.rsplit('.', 1)[0]}.{axis}": symmetry
        for name, sublayer in source.sublayers.items()
        for axis, symmetry in sublayer.operator.symmetries.items()
    } | dict(one.stem.symmetries)
    for stage in range(1, len(one.stages)):
        bears |= {f"s{stage}.merge.{axis}": symmetry for axis, symmetry in one.merge(stage).symmetries.items()}
    for axis in axis_sizes(reference.architecture):
        if axis not in present:
            continue
        if axis.endswith(".embed"):
            stage = int(axis[1 : axis.index(".")])
            turns = rotate and foldable(one, stage) and foldable(other, stage)
            kinds[axis] = "rotation" if turns else "permutation"
        elif axis in bears:
            read = (axis, "read") in written
            turns = rotate and bears[axis] == "rotation"
            kinds[axis] = "rotation" if turns else "permutation" if read else "paired"
    return kinds
