"""Growing a network: deeper and wider, with the same function, and with new weights that training can use.

In canonical form, blocks that write nothing are put in, then every axis grows by itself. New units are tried in three ways, and
the first that leaves the function as it is is taken: *ahead*, weights that write an axis begin as in training and those that read
it at zero (of queries and keys, which nothing reads, the second is zero); *behind*, the other way round; *repeated*, entries are
there several times and their readers share the weight. A residual stream is embedded in a wider one by an isometry that its norms
do not notice; what reads it begins as in training on the channels in which nothing is yet.

Source: Chen et al., "Net2Net", 2016, https://arxiv.org/abs/1511.05641, for growth that keeps the function; Wang et al.,
"TokenFormer", 2025, https://arxiv.org/abs/2410.23168, section 3.3, for zeros in the place of copies: keys of parameter tokens are
the case *behind*.
Differs: TokenFormer's released code divides by the new number of tokens, so that its function changes; here numbers that depend
on a width stay what they were. Copies get equal gradients and stay copies, so that they are the last resort.
Limits: what no way leaves as it is is refused: the memory of an LMU, a sub-layer that is missing in a post-norm network, a stream
that may not be rotated unless it grows by a whole factor. The function is compared on made-up images in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

import torch
from pydantic import JsonValue
from torch import Tensor

from wb import __version__
from wb.core.architecture import Architecture, axes_of_part, axis_dims, axis_sizes
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Part, kind_of
from wb.fusion.forms.canonical import canonical, centred, foldable, unit_gains, with_unit_scales
from wb.fusion.forms.conform import Resizer, check_goal, isometry, origins_of
from wb.fusion.match.depth import arranged, probes
from wb.models.axes import Axes, Couple, Map
from wb.models.model import Model, Step, from_network, remap_model
from wb.models.named import axes_of
from wb.models.network import build, skeleton
from wb.training.refit.trace import network_of

P = TypeVar("P", bound=Part)
Way = Literal["ahead", "behind", "repeated", "isometry"]
WAYS: tuple[Way, ...] = ("ahead", "behind", "repeated")
STREAMS: tuple[Way, ...] = ("isometry", "repeated")
EXACT = 1e-9  # of the largest logit, in float64
PROBES = 4  # images
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Grow:
    """The pass: grows a model to the depths and widths of `to`; what is new follows from `seed`.

    `report(what, done, of)` is called before each axis that is grown by itself.
    """

    to: Architecture
    seed: int = 0
    report: Report = lambda what, done, of: None

    def __call__(self, model: Model, /) -> Model:
        """The grown model, in canonical form: norms are folded into what reads them, softmax scales are one.

        Raises:
            BadOption: `to` is smaller somewhere, equal, or differs in more than depths and widths.
            Unsupported: a width or a block that cannot be grown to without changing the function.
        """
        goal = goal_of(model.architecture, self.to)
        doubled = replace(model, weights={name: weight.double() for name, weight in model.weights.items()})
        growth = _Growth(doubled, goal, self.seed, self.report)
        found = growth()
        ways: dict[str, JsonValue] = {**growth.ways}
        step = Step(name="grow", arguments={"to": self.to.key, "ways": ways}, seed=self.seed, version=__version__)
        weights = {name: weight.float().contiguous() for name, weight in found.weights.items()}
        return Model(found.architecture, weights, (*model.history, step))


def goal_of(own: Architecture, to: Architecture) -> Architecture:
    """`to` with the class names of the model, where it has none. Raises `BadOption` as `Grow` does."""
    there = dict(own.parts())

    def told(name: str, part: P) -> P:
        """With the model's own numbers where the target leaves them to a default: that of its widths would be another."""
        mine = there.get(name)
        fields = type(part).model_fields if type(mine) is type(part) else {}
        return part.model_copy(update={n: getattr(mine, n) for n in fields if getattr(part, n) is None})

    goal = (to if to.head.labels else to.with_labels(own.head.labels)).with_parts(told)
    check_goal(with_unit_scales(own), with_unit_scales(goal))
    other = [
        f"{name} is {kind_of(type(part))} and in the target {kind_of(type(given))}"
        for name, part in own.parts()
        if (given := dict(goal.parts()).get(name)) is not None and type(given) is not type(part)
    ]
    if other:
        raise BadOption(f"{other[0]}, and growing keeps what there is; `wb convert` puts other mixers in")
    sizes, wanted = axis_sizes(own), axis_sizes(goal)
    blocks = [sum(not block.off for _, _, block in a.blocks()) for a in (own, goal)]
    less = {axis: (size, wanted[axis]) for axis, size in sizes.items() if wanted.get(axis, size) < size}
    if blocks[1] < blocks[0]:
        less = {"blocks": (blocks[0], blocks[1]), **less}
    if less:
        name, (size, smaller) = next(iter(less.items()))
        raise BadOption(
            f"{name} is {size} in the model and {smaller} in the target, and growing makes nothing smaller; `wb prune` does"
        )
    if sizes == wanted:
        raise BadOption("the target is as large as the model; give a larger one")
    return goal


@dataclass
class _Growth:
    """One growth, in float64."""

    given: Model
    goal: Architecture
    seed: int
    report: Report
    ways: dict[str, str] = field(default_factory=dict)  # axis -> how it was grown

    def __call__(self) -> Model:
        goal = with_unit_scales(self.goal)
        model = canonical(self.given, balance=False)
        self._check(model, "its canonical form", "")
        model = arranged(model, goal, origins_of(model, goal, None))
        model = replace(model, weights={name: weight.double() for name, weight in model.weights.items()})
        self._check(model, "blocks or sub-layers that it lacks", "; give a target with the same")
        wanted, dims = axis_sizes(goal), axis_dims(goal)
        own = axis_sizes(model.architecture)
        changed = sorted((axis for axis in own if own[axis] != wanted[axis]), key=lambda axis: dims[axis].late)
        inner = [axis for axis in changed if not axis.endswith(".embed")]
        together = self._all_ahead(model, inner)
        if together is not None:
            model, changed = together, [axis for axis in changed if axis not in inner]
        for number, axis in enumerate(changed):
            self.report(f"growing {axis}", number, len(changed))
            model = self._axis(model, axis, wanted[axis])
        model = replace(model, architecture=_settled_like(model.architecture, goal))
        model.check()
        self._check(
            model,
            "what else the target says, such as the eps of its norms,",
            "; give a target that has it from the model",
        )
        return model

    def _all_ahead(self, model: Model, axes: list[str]) -> Model | None:
        """All of these axes ahead at once; None where that changes the function."""
        wanted = axis_sizes(self.goal)
        for axis in axes:
            model = self._padded(model, axis, wanted[axis], "ahead")
        if self._missed(model) > EXACT:
            return None
        self.ways |= dict.fromkeys(axes, "ahead")
        return model

    def _axis(self, model: Model, axis: str, size: int) -> Model:
        """The model with one axis grown, in the first way that leaves the function as it is."""
        ways = WAYS if not axis.endswith(".embed") else STREAMS
        if axis.endswith(".embed") and not foldable(skeleton(model.architecture), _stage(axis)):
            ways = WAYS[-1:]
        for way in ways:
            if self._missed(found := self._by(way, model, axis, size)) <= EXACT:
                self.ways[axis] = way
                return found
        old = axis_sizes(model.architecture)[axis]
        raise Unsupported(
            f"{axis} cannot grow from {old} to {size} without changing what the network computes; keep it at {old}, or at a "
            "multiple of it, in the target"
        )

    def _by(self, way: Way, model: Model, axis: str, size: int) -> Model:
        """The model with one axis grown in that way, whatever that does."""
        if way == "repeated":
            maps: dict[str, Map] = {axis: Resizer(model, None)(axis, axis_sizes(model.architecture)[axis], size)}
            return remap_model(model, maps)
        return self._embedded(model, axis, size) if way == "isometry" else self._padded(model, axis, size, way)

    def _padded(self, model: Model, axis: str, size: int, way: Way) -> Model:
        """New entries on an axis: random on one side of it, zero on the other."""
        old = axis_sizes(model.architecture)[axis]
        eye = torch.eye(size, old, dtype=torch.float64)
        field = axis.rsplit(".", 1)[-1]
        kept = model.architecture.with_parts(
            lambda name, part: part.padded([field]) if axis in axes_of_part(name, part) else part
        )
        padded = remap_model(replace(model, architecture=kept), {axis: Couple(eye, eye)})
        network = skeleton(padded.architecture)
        on = {name: dimensions for name, dimensions in axes_of(network).items() if axis in _names(dimensions)}
        constants = {f"{at.prefix}.{name}" for at in network.walk() for name in at.operator.constants}
        read = {
            name for name, dimensions in on.items() if any(a is not None and a == (axis, "read") for a in dimensions)
        }
        writing = [name for name in on if name not in read]
        ahead = writing if read else writing[:1]  # of what meets in a product one is enough
        filled = read if way == "behind" else set(ahead)
        weights = dict(padded.weights)
        for name in filled - constants - set(network.statistics()):
            weights[name] = self._filled(name, weights[name], on[name], axis, old)
        for name in set(network.statistics()) & on.keys():
            if name.endswith("variance"):
                weights[name][old:] = 1.0
        return replace(padded, weights=weights)

    def _filled(self, name: str, weight: Tensor, dimensions: Axes, axis: str, old: int) -> Tensor:
        """A parameter with entries of a network that begins its training in the place of new ones."""
        fresh = self._fresh[name]
        for dim, size in enumerate(weight.shape):
            fresh = fresh.narrow(dim, 0, size)
        dim = _names(dimensions).index(axis)
        weight = weight.clone()
        count = weight.shape[dim] - old
        weight.narrow(dim, old, count).copy_(fresh.narrow(dim, old, count))
        return weight

    def _embedded(self, model: Model, axis: str, size: int) -> Model:
        """A stream in a wider one; what reads it sees new channels too, in which there is nothing yet."""
        stage, old = _stage(axis), axis_sizes(model.architecture)[axis]
        network = skeleton(model.architecture)
        couple = isometry(old, size, None, centred=centred(network, stage))
        grown = remap_model(model, {axis: couple})
        inside = couple.write @ couple.read.T  # onto the channels in which the old stream lies
        weights = dict(grown.weights)
        for name, dimensions in axes_of(skeleton(grown.architecture)).items():
            for dim, on in enumerate(dimensions):
                if on is not None and on == (axis, "read"):
                    fresh = self._fresh[name]
                    for place, length in enumerate(weights[name].shape):
                        fresh = fresh.narrow(place, 0, length)
                    outside = torch.tensordot(fresh, torch.eye(size, dtype=torch.float64) - inside, dims=([dim], [1]))
                    weights[name] = weights[name] + outside.movedim(-1, dim)
        ones = {name: torch.ones_like(weights[name]) for name in unit_gains(skeleton(grown.architecture))}
        return replace(grown, weights={**weights, **{name: ones[name] for name in ones if name in weights}})

    def _missed(self, model: Model) -> float:
        """How far the logits are from what they were, as a share of the largest; infinite where they are no numbers."""
        found = float((self._logits(model) - self._expected).abs().max())
        return found / float(self._expected.abs().max()) if found == found else float("inf")

    def _check(self, model: Model, what: str, advice: str) -> None:
        if self._missed(model) > EXACT:
            raise Unsupported(f"{what} would change what this network computes{advice}")

    @torch.no_grad()
    def _logits(self, model: Model) -> Tensor:
        logits: Tensor = network_of(model)(self._images)
        return logits

    @cached_property
    def _images(self) -> Tensor:
        found = probes(self.given.architecture, PROBES)
        return found.double() if found.is_floating_point() else found  # ids stay what they are

    @cached_property
    def _expected(self) -> Tensor:
        return self._logits(self.given)

    @cached_property
    def _fresh(self) -> Mapping[str, Tensor]:
        """The weights of a network of the goal's size before it is trained."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = build(self.goal)
            network.reset()
        return {name: weight.double() for name, weight in from_network(self.goal, network).weights.items()}


def _settled_like(found: Architecture, goal: Architecture) -> Architecture:
    """The architecture of the grown model: the goal's, with what its operators keep of the smaller ones."""
    records = dict(found.parts())
    return goal.with_parts(lambda name, part: records.get(name, part))  # type: ignore[arg-type]


def _names(dimensions: Axes) -> list[str | None]:
    return [None if on is None else on.name for on in dimensions]


def _stage(axis: str) -> int:
    return int(axis[1 : axis.index(".")])
