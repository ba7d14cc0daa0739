"""The selection of units to remove: greedy, least saliency for the cost first, over all axes at once, down to cost targets.

Source: NViT, section 3.2-3.3: one ranking over all axes, by saliency and by the latency that a unit saves.
Differs: saliency is *divided* by the saving to the power eta (eta = 0 ignores the cost), instead of a difference with a
weight that depends on the loss and on the unit of time; whole sub-layers compete with single units; what remains of the
budget at the end is spent on the most salient of the removed units.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wb.compress.nvit.cost import Cost, pieces
from wb.compress.nvit.saliency import Scores
from wb.compress.nvit.settings import Rules
from wb.core.architecture import Architecture, axis_dims, axis_sizes, kind_of_axis
from wb.models.axes import Map, Select, SelectWithin

STEPS = 96  # an axis goes from its whole size to nothing in about so many steps at most
TINY = 1e-12


@dataclass
class Line:
    """The units of one axis from the least to the most salient, of which the last `size` are kept.

    `order` and `score` are (units,), or (heads, units) where each head chooses its own; `heads` is then the line of the heads.
    """

    name: str
    order: NDArray[np.int64]
    score: NDArray[np.float64]
    align: int
    size: int
    heads: Line | None = None

    @property
    def units(self) -> int:
        """Number of units before the selection."""
        return int(self.order.shape[-1])

    def below(self) -> int:
        """The next smaller size; at the smallest allowed size, that size."""
        if self.size <= self.align:
            return self.size
        step = self.align * max(1, self.units // (STEPS * self.align))
        return max(self.align, -(-(self.size - step) // self.align) * self.align)

    def worth(self, low: int, high: int) -> float:
        """The saliency lost by going from size `high` to size `low`."""
        part = self.score[..., self.units - high : self.units - low]
        if self.heads is not None:
            part = part[self.heads.kept()]
        return float(part.sum())

    def kept(self) -> NDArray[np.int64]:
        """The indices of the kept units, ascending."""
        return np.sort(self.order[..., self.units - self.size :], axis=-1)


class Move(NamedTuple):
    """A possible removal: an axis to a smaller size, or a whole sub-layer (size 0), with the lost saliency and saved cost."""

    name: str
    size: int
    worth: float
    saved: float  # in shares of the targets


@dataclass
class Selector:
    """A selection on one network: `until` removes units and sub-layers; `maps` and `dropped` give the result."""

    architecture: Architecture
    scores: Scores
    costs: Mapping[str, Cost]  # by metric
    rules: Rules
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sizes = axis_sizes(self.architecture)
        self._pieces = {piece.name: piece for piece in pieces(self.architecture)}
        self._of_axis: dict[str, list[str]] = {}
        for piece in self._pieces.values():
            for axis in piece.local:
                self._of_axis.setdefault(axis, []).append(piece.name)
        self._parts = {m: {n: c.part(p, self.sizes) for n, p in self._pieces.items()} for m, c in self.costs.items()}
        self._outer = {
            name: f"{name.rsplit('.', 1)[0]}.{dim.within}"
            for name, dim in axis_dims(self.architecture).items()
            if dim.within
        }
        self.lines = dict(self._lines())
        for line in self.lines.values():
            if line.order.ndim == 2:
                line.heads = self.lines.get(self._outer[line.name])
        self._moves: dict[str, Move] = {}

    def _lines(self) -> Iterator[tuple[str, Line]]:
        dims = axis_dims(self.architecture)
        for name, size in self.sizes.items():
            if name not in self.scores or kind_of_axis(name) in self.rules.keep:
                continue
            score = self.scores[name].double().numpy()
            order = np.argsort(score, axis=-1, kind="stable")
            align = self.rules.align if dims[name].aligned else 1
            yield name, Line(name, order, np.take_along_axis(score, order, axis=-1), min(align, size), size)

    @property
    def layers(self) -> list[str]:
        """All sub-layers of the network, dropped ones included."""
        return [name for name in self._pieces if name != "ends"]

    def _droppable(self, layer: str) -> bool:
        """Whether a sub-layer may be dropped: it has a score, and the rules keep none of its own axes."""
        kinds = {axis.rsplit(".", 1)[-1] for axis in self._pieces[layer].local if axis.count(".") == 2}
        return layer in self.scores and not kinds & self.rules.keep

    def floor(self, metric: str) -> float:
        """The least cost that the rules allow."""
        sizes = {**self.sizes, **{line.name: min(line.align, line.units) for line in self.lines.values()}}
        dropped = set() if "blocks" in self.rules.keep else {name for name in self.layers if self._droppable(name)}
        cost = self.costs[metric]
        return cost.factor * (
            cost.constant + sum(cost.part(p, sizes) for n, p in self._pieces.items() if n not in dropped)
        )

    def cost(self, metric: str) -> float:
        """The predicted cost of the network as it is now."""
        cost = self.costs[metric]
        return cost.factor * (cost.constant + sum(self._parts[metric].values()))

    def maps(self) -> list[dict[str, Map]]:
        """The maps for `remap_model`, to be used after dropping sub-layers: axes within heads first, then all others."""
        within: dict[str, Map] = {}
        rest: dict[str, Map] = {}
        for name, line in self.lines.items():
            if line.size == line.units or self._layer(name) in self.dropped:
                continue
            index = torch.from_numpy(line.kept())
            if index.dim() == 2:
                within[name] = SelectWithin(index, self._outer[name])
            else:
                rest[name] = Select(index)
        return [maps for maps in (within, rest) if maps]

    def until(self, targets: Mapping[str, float], *, final: Mapping[str, float] | None = None) -> bool:
        """Removes units until every metric is at most its target; False if none is left to remove before that.

        `final` gives the targets of the last round if this is not the last one. Savings beyond them do not count in the ranking,
        so that near the end small moves come before large ones and no round goes below the final targets needlessly.
        """
        final = final or targets
        if not all(self.cost(metric) <= target for metric, target in targets.items()):
            before: list[str] = []
            while over := [metric for metric, target in targets.items() if self.cost(metric) > target]:
                if over != before:
                    self._moves, before = {}, over
                move = self._least(over, targets, final)
                if move is None:
                    return False
                self._apply(move)
            self._give_back(targets)
        return True

    def _least(self, over: Sequence[str], targets: Mapping[str, float], final: Mapping[str, float]) -> Move | None:
        """The move that loses least saliency for its saving. Moves are cached until a part that they depend on changes."""
        for name, line in self.lines.items():
            if name not in self._moves and self._layer(name) not in self.dropped and line.below() < line.size:
                self._moves[name] = self._shrink(line, over, targets)
        if "blocks" not in self.rules.keep:
            for name in self.layers:
                if name not in self._moves and name not in self.dropped and self._droppable(name):
                    saved = sum(self._saved(metric, name) / targets[metric] for metric in over)
                    self._moves[name] = Move(name, 0, float(self.scores[name]), saved)
        need = sum((self.cost(metric) - final[metric]) / targets[metric] for metric in over)
        return min(self._moves.values(), key=lambda move: self._rank(move.worth, min(move.saved, need)), default=None)

    def _saved(self, metric: str, layer: str) -> float:
        return self.costs[metric].factor * self._parts[metric][layer]

    def _shrink(self, line: Line, over: Sequence[str], targets: Mapping[str, float]) -> Move:
        low = line.below()
        return Move(line.name, low, line.worth(low, line.size), -self._change(line.name, low, over, targets))

    def _change(self, axis: str, size: int, metrics: Iterable[str], targets: Mapping[str, float]) -> float:
        """The change of cost if an axis had this size, in shares of the targets, summed over the metrics."""
        changed = {**self.sizes, axis: size}
        added = 0.0
        for metric in metrics:
            cost, parts = self.costs[metric], self._parts[metric]
            for name in self._of_axis[axis]:
                if name not in self.dropped:
                    added += cost.factor * (cost.part(self._pieces[name], changed) - parts[name]) / targets[metric]
        return added

    def _rank(self, worth: float, saved: float) -> float:
        """The logarithm of worth over saved to the power eta."""
        return math.log(max(worth, TINY**4)) - self.rules.eta * math.log(max(saved, TINY))

    def _apply(self, move: Move) -> None:
        if move.size == 0:
            self.dropped.append(move.name)
            touched = [move.name]
            for parts in self._parts.values():
                parts[move.name] = 0.0
        else:
            touched = self._resize(move.name, move.size)
        for name in list(self._moves):
            # Residual channels are an axis of every sub-layer, so that their rank changes whenever one of them changes.
            layer = self._layer(name)
            if name in touched or layer in touched or (layer is None and name not in self._pieces):
                del self._moves[name]

    def _resize(self, axis: str, size: int) -> list[str]:
        """Sets the size of an axis; returns the parts whose cost changed."""
        self.sizes[axis] = self.lines[axis].size = size
        touched = [name for name in self._of_axis[axis] if name not in self.dropped]
        for metric, parts in self._parts.items():
            for name in touched:
                parts[name] = self.costs[metric].part(self._pieces[name], self.sizes)
        return touched

    def _give_back(self, targets: Mapping[str, float]) -> None:
        """Restores units as long as all targets are still met, the most salient for their cost first."""
        spent: set[str] = set()
        while True:
            offers = [
                line
                for name, line in self.lines.items()
                if name not in spent and line.size < line.units and self._layer(name) not in self.dropped
            ]
            if not offers:
                return
            line = max(offers, key=lambda line: self._value(line, targets))
            before = line.size
            self._resize(line.name, _above(line))
            if any(self.cost(metric) > target for metric, target in targets.items()):
                self._resize(line.name, before)
                spent.add(line.name)

    def _value(self, line: Line, targets: Mapping[str, float]) -> float:
        """The rank of the next units to restore on this axis: saliency over cost."""
        more = _above(line)
        return self._rank(line.worth(line.size, more), self._change(line.name, more, targets, targets))

    def _layer(self, axis: str) -> str | None:
        """The sub-layer that owns an axis; None for the residual stream and the stem."""
        return self._of_axis[axis][0] if axis.count(".") == 2 and axis in self._of_axis else None


def _above(line: Line) -> int:
    """The next larger size that the alignment allows."""
    return min(line.units, (line.size // line.align + 1) * line.align)
