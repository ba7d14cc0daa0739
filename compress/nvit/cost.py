"""The cost model of pruning: a network's cost as a sum over its parts, each a smooth function of the sizes of its axes.

A part is a sub-layer with its norm, its join and its residual addition; the stem, merging and the head together are one more
part, the ends. A part's cost is a sum of products of the sizes of its axes: attention has terms n*h*k, n*h*v, n*n*h. Of
the ends only axes that meet are multiplied: of a merge with the streams before and behind it, so that a network of seven stages
needs tens of samples and not thousands. The coefficients come from counted or timed samples of parts, by non-negative least
squares on *relative* errors. For counted metrics the fit is exact where the operator's cost is such a sum.

Source: NViT, section 3.3 (a table over a grid of sizes, interpolated); FBNet, section 3.2 (the additive table).
Differs: coefficients instead of multilinear interpolation. They need some twenty timings per family of parts instead of 9,375
in all, and the cost never decreases in any size. Before the last cut of a stage the parts are timed at their present sizes;
after every cut the sum is scaled to the reading of the whole network.
Limits: linear attention picks the cheaper of two orders of multiplication, which is no such sum: the fit is approximate
there, and the final network is counted or measured whole in any case.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from wb.core.architecture import Architecture, axis_dims, axis_sizes, resize
from wb.core.records import dims
from wb.models.counting import count_parameters

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Piece:
    """One part of an architecture, with its family and the global names of its axes.

    Parts of one family have the same cost at equal sizes. `local` maps the global name of each axis to its name within the
    family; `squared` lists the axes whose size enters as a square (one convolution of a stem after another). `groups` are the
    axes whose sizes may multiply one another, by global name; none for all together.
    """

    name: str
    family: str
    local: Mapping[str, str]
    squared: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()

    def place(self, sizes: Sizes) -> tuple[int, ...]:
        """The sizes of the part's axes, in the order of `local`, then those of the squared axes again."""
        return tuple(sizes[axis] for axis in (*self.local, *self.squared))

    def grouped(self) -> tuple[tuple[int, ...], ...]:
        """The groups as positions in a place."""
        places = (*self.local, *self.squared)
        return tuple(tuple(i for i, axis in enumerate(places) if axis in group) for group in self.groups)


def pieces(architecture: Architecture) -> Iterator[Piece]:
    """The parts of an architecture: the ends, then every sub-layer in order of execution."""
    ends = axis_dims(architecture.bare())
    squared = tuple(name for name, dim in ends.items() if dim.squared)
    yield Piece("ends", "ends", {name: name for name in ends}, squared, _meeting(list(ends)))
    layouts = list(architecture.layouts())
    for name, whole, block in architecture.blocks():
        stage, number = name.split(".b")
        for role, part in block.parts():
            axes = dims(type(part))
            fixed = part.structure().model_dump(mode="json", exclude={*axes})
            norm, wiring = block.norm or architecture.norm, whole.alone(int(number), role).wiring
            around = [record.model_dump(mode="json") for record in (norm, wiring)]
            around += [] if block.join is None else [block.join.structure().model_dump(mode="json")]
            family = json.dumps([role, fixed, layouts[int(stage[1:])], *around], sort_keys=True)
            local = {f"{stage}.embed": "embed"} | {f"{name}.{axis}": axis for axis in axes}
            yield Piece(f"{name}.{role}", family, local)


def _meeting(axes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The axes of the ends that meet: of the stem and the first stream, of each merge and the streams on both sides of it."""
    of: dict[int, list[str]] = {}
    for axis in axes:
        stage = axis.split(".")[0].removeprefix("s")
        of.setdefault(int(stage) if stage.isdecimal() else 0, []).append(axis)
    found = [(*(axis for axis in of.get(i - 1, ()) if axis.endswith(".embed")), *own) for i, own in sorted(of.items())]
    return tuple(group for group in found if not any(set(group) < set(other) for other in found))


def alone(architecture: Architecture, piece: Piece) -> Architecture:
    """The smallest network with that part: the ends and the one sub-layer; for the ends, the network without blocks."""
    if piece.name == "ends":
        return architecture.bare()
    stage_name, block_name, part = piece.name.split(".")
    i, j = int(stage_name[1:]), int(block_name[1:])
    stages = list(architecture.bare().stages)
    stages[i] = architecture.stages[i].alone(j, part)
    return architecture.model_copy(update={"stages": tuple(stages)})


def parameters_by_part(architecture: Architecture) -> dict[str, int]:
    """Number of parameters by part; a sub-layer's include its norm and its join."""
    found = {}
    for piece in pieces(architecture):
        only = alone(architecture, piece)
        beside = 0.0 if piece.name == "ends" else count_parameters(only.bare()).value
        found[piece.name] = int(count_parameters(only).value - beside)
    return found


@dataclass
class Surface:
    """The cost function of one family: coefficients of products of sizes, fitted to the sampled `points`.

    Without `groups`, positions of sizes, any sizes are multiplied; else those of a group.
    """

    axes: tuple[str, ...]
    points: dict[tuple[int, ...], float] = field(default_factory=dict)
    coefficients: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    groups: tuple[tuple[int, ...], ...] = ()

    def fit(self) -> None:
        """Fits non-negative coefficients by least squares of the relative errors at the points."""
        x = np.array([self._products(place) for place in self.points])
        y = np.array(list(self.points.values()))
        weight = 1 / np.maximum(y, 1e-3 * y.max() if y.max() > 0 else 1.0)
        scale = np.maximum(x.max(axis=0), 1e-12)  # products differ by orders of magnitude
        found, _ = nnls((x / scale) * weight[:, None], y * weight, maxiter=100 * x.shape[1])
        self.coefficients = found / scale

    def __call__(self, place: Sequence[int]) -> float:
        """The cost at these sizes, in the order of `axes`."""
        return float(self.coefficients @ self._products(place))

    def _products(self, place: Sequence[int]) -> NDArray[np.float64]:
        if not self.groups:
            return products(tuple(place))
        return np.concatenate([products(tuple(place[i] for i in group)) for group in self.groups])

    def error(self) -> float:
        """The largest relative error at the points."""
        return max((abs(self(p) - y) / y for p, y in self.points.items() if y > 0), default=0.0)


@lru_cache(maxsize=100_000)
def products(place: tuple[int, ...]) -> NDArray[np.float64]:
    """The monomials of the cost: 1, every size, every product of two sizes and so on, one for each subset of the axes."""
    found = np.ones(1)
    for size in place:
        found = np.concatenate([found, found * size])
    return found


def design(
    sizes: Sequence[int], align: Sequence[int] = (), *, extra: bool = True, groups: Sequence[Sequence[int]] = ()
) -> list[tuple[int, ...]]:
    """The sizes at which to sample a family whose largest sizes are `sizes`: all corners with each axis at a quarter or whole.

    With `groups` of positions only the axes of one group are at a quarter together.

    With `extra` also the middle, and each axis alone at a half and at a sixteenth, because small products cost more than in
    proportion. Sizes are multiples of `align` where that is given, or whole.
    """
    steps = align or (1,) * len(sizes)

    def part(i: int, of: int) -> int:
        return min(sizes[i], -(-max(1, sizes[i] // of) // steps[i]) * steps[i])

    low = [part(i, 4) for i in range(len(sizes))]
    places: list[tuple[int, ...]] = []
    for group in groups or (range(len(sizes)),):
        both = [[a, b] if a < b and i in group else [b] for i, (a, b) in enumerate(zip(low, sizes, strict=True))]
        places += itertools.product(*both)
    if extra:
        places.append(tuple(part(i, 2) for i in range(len(sizes))))
        for of in (2, 16):
            places += [(*sizes[:i], part(i, of), *sizes[i + 1 :]) for i in range(len(sizes))]
    return list(dict.fromkeys(tuple(place) for place in places))


Sample = Callable[[Sequence[tuple[Architecture, Piece]]], Sequence[float]]


@dataclass
class Cost:
    """One metric of any network that `dense` can be pruned to, predicted as a sum over parts.

    `sample` counts or times parts; it gets pairs of the network that `alone` makes, and the part. `constant` is a cost that
    every network has besides its parts (one call of the runtime); `factor` scales the sum to readings of whole networks.
    Parts are sampled at multiples of `align`, as runtimes take longer for others than their sizes say.
    """

    dense: Architecture
    sample: Sample
    constant: float = 0.0
    factor: float = 1.0
    fixed: frozenset[str] = frozenset()  # axes that keep their size, so that they need no samples
    extra: bool = True
    align: int = 1
    surfaces: dict[str, Surface] = field(default_factory=dict)

    def prepare(self) -> None:
        """Samples and fits every family of the dense network, up to the largest sizes that its members have."""
        sizes, known = axis_sizes(self.dense), axis_dims(self.dense)
        families: dict[str, list[Piece]] = {}
        for piece in pieces(self.dense):
            families.setdefault(piece.family, []).append(piece)
        wanted = []
        for family, members in families.items():
            piece = members[0]
            self.surfaces[family] = Surface(tuple(piece.local), groups=piece.grouped())
            found = [{sizes[axis] for axis in column} for column in zip(*(m.local for m in members), strict=True)]
            # A fixed axis keeps its size; where the members of a family differ in it, it is sampled like the others.
            free = [i for i, name in enumerate(piece.local) if name not in self.fixed or len(found[i]) > 1]
            most = [max(column) for column in found]
            names = list(piece.local)
            align = [self.align if known[names[i]].aligned else 1 for i in free]
            groups = [[free.index(i) for i in group if i in free] for group in piece.grouped()]
            for part in design([most[i] for i in free], align, extra=self.extra or bool(piece.squared), groups=groups):
                chosen = tuple(part[free.index(i)] if i in free else most[i] for i in range(len(most)))
                changed = {**sizes, **dict(zip(piece.local, chosen, strict=True))}
                wanted.append((family, piece.place(changed), resize(self.dense, changed), piece))
        self._take(wanted)
        self.refine(self.dense)

    def refine(self, architecture: Architecture) -> None:
        """Samples those parts of `architecture` that have no point yet, and fits again."""
        sizes = axis_sizes(architecture)
        wanted = {
            (piece.family, piece.place(sizes)): piece
            for piece in pieces(architecture)
            if piece.place(sizes) not in self.surfaces[piece.family].points
        }
        self._take([(family, place, architecture, piece) for (family, place), piece in wanted.items()])

    def __call__(self, architecture: Architecture) -> float:
        """The cost of a whole network that is as narrow as `dense` or narrower."""
        sizes = axis_sizes(architecture)
        return self.factor * (self.constant + sum(self.part(piece, sizes) for piece in pieces(architecture)))

    def part(self, piece: Piece, sizes: Sizes) -> float:
        """The cost of one part at these sizes, before `factor`."""
        return self.surfaces[piece.family](piece.place(sizes))

    def _take(self, wanted: Iterable[tuple[str, tuple[int, ...], Architecture, Piece]]) -> None:
        wanted = list(wanted)
        if not wanted:
            return
        values = self.sample([(alone(a, piece), piece) for _, _, a, piece in wanted])
        for (family, place, _, _), value in zip(wanted, values, strict=True):
            if math.isfinite(value):
                self.surfaces[family].points[place] = value
        for family in {family for family, *_ in wanted}:
            self.surfaces[family].fit()
