"""Conforming: gives a model the sizes of another architecture, as the first step of fusing into a chosen size.

The order is depth, then heads and hidden units, then the channels of heads, then the stream. Growth keeps the function:
new blocks write nothing; entries are repeated and their readers share the weight; a stream is embedded in a wider one by an
isometry that norms do not notice. Shrinking keeps the entries with the largest effect.

Source: growth as in Chen et al., "Net2Net", 2016, https://arxiv.org/abs/1511.05641. Shrinking a stream to its principal
directions as in Ashkboos et al., "SliceGPT", 2024, https://arxiv.org/abs/2401.15024; blocks by their influence as in Men et
al., "ShortGPT", 2024, https://arxiv.org/abs/2403.03853.
Differs: principal directions come from one Gram matrix for a whole stream, computed from weights if there are no images, and
the vector of ones is kept where a norm takes the mean away, so that LayerNorms stay LayerNorms. An LMU's memory is fitted by
least squares to the responses of the old one, because memories of different sizes have different coefficients.
Limits: growth is exact, with these exceptions. A stream that may not be rotated and a stem's width have to grow by a whole
factor; an LMU's memory has to grow to the number of tokens; a block that writes nothing still has a norm in a post-norm
network. After a stream was resized, values and outputs of a head are no longer balanced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Architecture, axis_dims, axis_sizes
from wb.core.errors import BadOption
from wb.fusion.align.solvers import couple, stream_rotation
from wb.fusion.forms.canonical import centred, foldable, unit_gains, with_unit_scales
from wb.fusion.forms.compatible import joins_of, norms_of, wirings_of
from wb.fusion.forms.heads import factors_on
from wb.fusion.match.depth import Match, arranged, check_images, probes, streams, switched_on
from wb.models.axes import Axis, Couple, Leading, Map, Select, SelectWithin, nested, write
from wb.models.joins.base import JoinModule
from wb.models.model import Model, remap_model
from wb.models.named import axes_of
from wb.models.network import build
from wb.models.norms.base import NormModule
from wb.models.walk import Sublayer

Role = Literal["write", "read"]


def conform(model: Model, target: Architecture, images: Tensor | None = None, origins: Match | None = None) -> Model:
    """`model`, in canonical form, with the architecture of `target`, except that softmax scales are one.

    `images` (n, channels, height, width), float32 in [0, 1], decide which blocks and directions of the stream to keep; without
    them, weights and noise images do. `origins` is the result of `origins_of` if it is known already. Weights keep their type;
    without any difference in size they are the model's own.

    Raises:
        BadOption: stem, stages, pool, input, classes, labels, norm or join differ, or `images` are not what the model reads.
        Unsupported: a block of the model would have to become one of another kind.
    """
    if images is not None:
        check_images(model.architecture.input, images)
    goal = with_unit_scales(target)
    check_goal(model.architecture, goal)
    model = arranged(model, goal, origins_of(model, goal, images) if origins is None else origins)
    for late in sorted({dim.late for dim in axis_dims(goal).values()}):
        maps = _maps(model, goal, late, images)
        model = remap_model(model, maps) if maps else model
    ones = {name: torch.ones_like(model.weights[name]) for name in unit_gains(build(goal, "meta"))}
    result = replace(model, architecture=goal, weights={**model.weights, **ones})
    result.check()
    return result


def origins_of(model: Model, goal: Architecture, images: Tensor | None) -> Match:
    """For each block of each stage of `goal`, the index of the model's block that takes its place, or None.

    Raises:
        BadOption: the numbers of stages differ, or `images` are not what the model reads.
    """
    check_goal(model.architecture, goal)
    lost: list[list[float]] | None = None
    result = []
    for i, (own, wanted) in enumerate(zip(model.architecture.stages, goal.stages, strict=True)):
        blocks, places = switched_on(own), switched_on(wanted)
        if len(own.blocks) == len(wanted.blocks) and set(blocks) <= set(places):  # every block keeps its place
            result.append(tuple(j if j in blocks else None for j in range(len(wanted.blocks))))
            continue
        if len(blocks) > len(places):
            if lost is None:
                lost = _influence(model, probes(model.architecture) if images is None else images)
            ranked = sorted(blocks, key=lost[i].__getitem__, reverse=True)
            blocks = sorted(ranked[: len(places)])
        found = {places[k * len(places) // len(blocks)]: block for k, block in enumerate(blocks)}
        result.append(tuple(found.get(j) for j in range(len(wanted.blocks))))
    return tuple(result)


def check_goal(own: Architecture, goal: Architecture) -> None:
    """Raises `BadOption` where the two differ in more than depths and widths."""
    facts: dict[str, Callable[[Architecture], object]] = {
        "stem": lambda a: f"{a.stem.kind} of {a.stem.cut}",
        "number of stages": lambda a: len(a.stages),
        "kind of position": lambda a: a.position.kind,
        "pool": lambda a: a.head.pooling,
        "number of prefix tokens": lambda a: a.prefix,
        "input": lambda a: a.input.model_dump_json(),
        "number of classes": lambda a: a.head.classes,
        "wiring": wirings_of,
        "kind of norm": norms_of,
        "kind of join": lambda a: joins_of(a) or joins_of(own) or joins_of(goal),
        "labels": lambda a: a.head.labels or own.head.labels or goal.head.labels,
    }
    for name, fact in facts.items():
        given, wanted = fact(own), fact(goal)
        if given != wanted:
            raise BadOption(
                f"the {name} of the target is {wanted} and that of the model {given}; they have to be the same, for only "
                "depths and widths can be changed; give a target that has them from the model"
            )


def _influence(model: Model, images: Tensor) -> list[list[float]]:
    """Block influence: for each block of each stage, 1 - the mean cosine of a token before and after it."""
    total = [[0.0] * len(stage.blocks) for stage in model.architecture.stages]
    for batch in streams(model, images):
        for i, stage in enumerate(batch):
            share = len(stage[0]) / len(images)
            for j in range(len(stage) - 1):
                cosine = torch.cosine_similarity(stage[j].double(), stage[j + 1].double(), dim=-1)
                total[i][j] += share * (1 - float(cosine.mean()))
    return total


def _maps(model: Model, goal: Architecture, late: int, images: Tensor | None) -> dict[str, Map]:
    """The maps of one round (`Dim.late`): one for every axis whose size differs from `goal`."""
    own, wanted, dims = axis_sizes(model.architecture), axis_sizes(goal), axis_dims(goal)
    changed = [axis for axis in own if own[axis] != wanted[axis] and dims[axis].late == late]
    if not changed:
        return {}
    resizer = Resizer(model, images)
    return {axis: resizer(axis, own[axis], wanted[axis]) for axis in changed}


class Resizer:
    """Chooses the map that takes one axis of a model from its old size to its new one."""

    def __init__(self, model: Model, images: Tensor | None) -> None:
        self.model, self.images = model, images
        self.network = build(model.architecture, "meta")
        self.sublayers = list(self.network.walk())
        self.axes, self.dims = axes_of(self.network), axis_dims(model.architecture)
        self.nested = nested(self.axes, self.dims)
        self.bears = {f"{s.place}.{axis}": kind for s in self.sublayers for axis, kind in s.operator.symmetries.items()}

    def __call__(self, axis: str, old: int, new: int) -> Map:
        dim, at = self.dims[axis], self._of(axis)
        if dim.fitted and at is not None:
            return at.operator.converted(axis.rsplit(".", 1)[1], old, new)
        if axis.endswith(".embed"):
            gram = self._gram(axis).cpu() if new < old else None
            if foldable(self.network, _stage(axis)):
                return isometry(old, new, gram, centred=centred(self.network, _stage(axis)))
            return _repeated(old, new) if gram is None else _largest(gram.diagonal(), new)
        if self.bears.get(axis) == "rotation" and (new > old or self._sorted(axis)):
            eye = torch.eye(new, old, dtype=torch.float64)
            return Leading(new) if new < old else Couple(eye, eye)
        if dim.ordered and new < old:
            return Leading(new)  # each entry was learned to correct those before it
        if new > old:
            return _repeated(old, new, paired=not self._on(axis, "read") and bool(self._meeting(axis)[0]))
        outer = self.nested.get(axis)
        index = _largest(self._energy(axis, outer), new)
        return index if outer is None else SelectWithin(index.index, outer)

    def _on(self, axis: str, role: Role) -> list[str]:
        """The parameters with that role on the axis."""
        return [name for name, dimensions in self.axes.items() if Axis(axis, role) in dimensions]

    def _sorted(self, axis: str) -> bool:
        """Whether the strongest channels come first, as in balanced heads; with shared queries and keys nothing is balanced."""
        at = self._of(axis)
        return at is not None and factors_on(at.operator, axis.rsplit(".", 1)[1]) is not None

    def _gram(self, axis: str) -> Tensor:
        """The Gram matrix (D, D) of a stream's channels, over tokens or over the weights that write the stream."""
        total, taken = torch.zeros(()), centred(self.network, _stage(axis))
        if self.images is not None:
            for batch in streams(self.model, self.images):
                for x in batch[_stage(axis)]:
                    rows = (F.layer_norm if taken else F.rms_norm)(x, x.shape[-1:]).flatten(0, 1).double()
                    total = total + rows.T @ rows
            return total
        folds, modules = self.network.folds(_stage(axis)), self.network.named_modules()
        factors = {n for n, m in modules if isinstance(m, JoinModule) or (folds and isinstance(m, NormModule))}
        for name in self._on(axis, "write"):
            if name.rsplit(".", 1)[0] not in factors:
                rows = self._entries(name, "write", axis)
                total = total + rows @ rows.T
        return total

    def _energy(self, axis: str, outer: str | None) -> Tensor:
        """Strength of the entries: norm of their writers times norm of their readers; (entries of `outer`, n) or (n,)."""
        on = (axis,) if outer is None else (outer, axis)
        written, reading = self._on(axis, "write"), self._on(axis, "read")
        first, values = self._meeting(axis)
        if first and (values or not reading):
            rest = [name for name in written if name not in (*first, *values)]
            meeting = self._norm(first, "write", on) * self._norm(rest, "write", on)
            return meeting * self._circuit(axis) if reading else meeting
        if not reading:
            return self._norm(written, "write", on)
        return self._norm(written, "write", on) * self._norm(reading, "read", on)

    def _of(self, axis: str) -> Sublayer | None:
        """The sub-layer that owns the axis."""
        return next((at for at in self.sublayers if axis.startswith(f"{at.place}.") and self._local(at, axis)), None)

    def _local(self, at: Sublayer, axis: str) -> bool:
        return any(axis == f"{at.place}.{on}" for on in at.operator.sizes if on != "embed")

    def _meeting(self, axis: str) -> tuple[list[str], list[str]]:
        """Two groups among the writers of an axis: the first factor of a product (queries; the others are keys), and the values.

        Values are the inputs of a writer of the stream, channel by channel. The first group is empty on an axis of values.
        """
        at = self._of(axis)
        if at is None:
            return [], []
        carried = {on for name in at.writers for on in self.axes[name][1:] if on is not None}
        channels = {on.name for on in carried} - set(self.nested.values())
        readers = [pair for pair in at.readers.items() if write(axis) in self.axes[pair[0]]]
        is_value = [any(on is not None and on.name in channels for on in self.axes[name]) for name, _ in readers]
        names = [[name for name in pair if name is not None] for pair in readers]
        first = next((pair for pair, value in zip(names, is_value, strict=True) if not value), [])
        return first, [name for pair, value in zip(names, is_value, strict=True) if value for name in pair]

    def _circuit(self, heads: str) -> Tensor:
        """Norm of each head's output-value circuit: its output matrix times its value matrix."""
        at = self._of(heads)
        if at is None:
            raise ValueError(f"{heads} is no axis of a sub-layer")
        (writer,) = at.writers
        value = self._meeting(heads)[1][0]
        channels = next(on.name for on in self.axes[writer][1:] if on is not None and on.name != heads)
        v = self._entries(value, "write", heads, channels)
        o = self._entries(writer, "read", heads, channels)
        return ((v @ v.transpose(1, 2)) * (o @ o.transpose(1, 2))).sum(dim=(1, 2)).clamp(min=0).sqrt()

    def _norm(self, names: Sequence[str], role: Role, on: tuple[str, ...]) -> Tensor:
        squares = [self._entries(name, role, *on).square().sum(dim=-1) for name in names]
        return torch.stack(squares).sum(dim=0).sqrt()

    def _entries(self, name: str, role: Role, *on: str) -> Tensor:
        """A parameter as a matrix: the dimensions with that role on those axes first, all others flattened."""
        places = [self.axes[name].index(Axis(axis, role)) for axis in on]
        moved = self.model.weights[name].double().movedim(places, list(range(len(on))))
        return moved.reshape(*moved.shape[: len(on)], -1)


def _stage(axis: str) -> int:
    return int(axis[1 : axis.index(".")])


def _repeated(old: int, new: int, *, paired: bool = False) -> Map:
    """The map that repeats entries evenly; some once more than others if the sizes do not divide."""
    plan = torch.zeros(old, new, dtype=torch.float64)
    plan[torch.arange(new) % old, torch.arange(new)] = 1
    return couple(plan.numpy(), paired=paired)


def _largest(energy: Tensor, new: int) -> Select:
    """The entries of largest energy along the last dimension, in their old order."""
    return Select(energy.argsort(dim=-1, descending=True, stable=True)[..., :new].sort(dim=-1).values)


def isometry(old: int, new: int, gram: Tensor | None, *, centred: bool) -> Couple:
    """The isometry of a stream: into a wider stream, or onto principal directions by `gram`, which include the vector of ones
    where the stream is `centred`.
    """
    if gram is None:
        return stream_rotation(torch.eye(old, new, dtype=torch.float64), centred=centred)
    if not centred:
        return stream_rotation(torch.linalg.eigh(gram).eigenvectors[:, old - new :], centred=False)
    flat = gram - gram.mean(dim=0, keepdim=True)
    flat = flat - flat.mean(dim=1, keepdim=True)
    ones = (flat.trace() + 1) / old
    directions = torch.linalg.eigh(flat - ones).eigenvectors[:, old - new + 1 :]  # but for that of the ones
    basis = torch.linalg.qr(torch.cat([torch.ones(new, 1), torch.eye(new)[:, 1:]], dim=1).double()).Q[:, 1:]
    return stream_rotation(directions @ basis.T, centred=True)
