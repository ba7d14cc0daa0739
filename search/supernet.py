"""The weight-sharing supernet: shared weights that contain the weights of every architecture of a space.

There is no elastic layer. For each parameter name that `build` gives, the supernet holds the largest tensor that any
architecture of the space has there. A sub-network is a skeleton on the `meta` device that runs on views of the leading
entries (`wb.models.axes`). Mixers of one block that have a parameter of the same name and axes (q, k, v and output
projections) share it (`wb.search.shared`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from wb import __version__
from wb.core.architecture import Architecture, axis_sizes
from wb.core.errors import BadArtefact
from wb.core.space import Space, random_choices
from wb.core.system.files import replacing
from wb.data import Dataset, Split
from wb.models.axes import Centre, Leading, Map, remap
from wb.models.model import Model, Step
from wb.models.named import axes_of, sides
from wb.models.network import NO_DROPOUT, Dropout, build, skeleton
from wb.scale.ring.attention import Spread
from wb.scale.ring.channel import Channel
from wb.scale.team import ALONE, Team
from wb.search.shared import Shared, apart
from wb.tasks.known import task_of
from wb.training.arithmetic import computed
from wb.training.fit import Batch, Recipe, Report, fit, pick_device
from wb.training.linear import decayed, matrices
from wb.training.recipes.losses import answered, taught
from wb.training.recipes.mirrored import Mirrored, mirrored
from wb.training.recipes.resizable import check_sizes
from wb.training.shared.spreading import check_spreads
from wb.training.statistics import with_statistics
from wb.training.train import dropout_of, probing, written_with

WARM_UP = 0.3  # share of the steps in which the largest network trains alone
RANDOM_NETWORKS = 2  # random sub-networks per step, beside the largest and the smallest


class ElasticSpace(Space, Protocol):
    """A space whose architectures nest: the largest ones contain all others."""

    def smallest(self) -> Architecture:
        """The architecture with the smallest option of every choice."""
        ...

    def largest(self) -> Architecture:
        """The architecture with the largest option of every choice."""
        ...

    def tops(self) -> tuple[Architecture, ...]:
        """The largest networks of every kind, which together have every parameter."""
        ...


class Supernet:
    """Shared weights for all architectures of `space`."""

    def __init__(self, space: ElasticSpace, weights: Mapping[str, nn.Parameter]) -> None:
        self.space, self.weights = space, dict(weights)
        self.shared = Shared(map(skeleton, space.tops()))
        self.spread: Spread | None = None  # while processes share the tokens of what is run

    @staticmethod
    def fresh(space: ElasticSpace, seed: int, device: torch.device | str = "cpu") -> Supernet:
        """A supernet with initial weights, which are determined by the seed."""
        store: dict[str, Tensor] = {}
        shared = Shared(map(skeleton, space.tops()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for architecture in reversed(space.tops()):
                network = build(architecture)
                network.reset()
                found, kept = network.statistics(), shared.of(network)
                for name, weight in network.named_parameters():
                    if name not in found:
                        store.setdefault(kept[name], weight.detach())
        return Supernet(space, {name: nn.Parameter(weight.to(device)) for name, weight in store.items()})

    @staticmethod
    def of(space: ElasticSpace, model: Model, seed: int, device: torch.device | str = "cpu") -> Supernet:
        """A supernet whose largest network is `model`; what that has not, another kind of mixer for example, is initial."""
        supernet = Supernet.fresh(space, seed, device)
        with torch.no_grad():
            for name, view in supernet.views(model.architecture).items():
                view.copy_(model.weights[name])
        return supernet

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(iter(self.weights.values())).device

    def to(self, device: torch.device | str) -> Supernet:
        """The same weights on another device, or itself."""
        if self.device == torch.device(device):
            return self
        return Supernet(
            self.space, {name: nn.Parameter(weight.detach().to(device)) for name, weight in self.weights.items()}
        )

    def views(self, architecture: Architecture) -> dict[str, Tensor]:
        """The weights of one sub-network, as views of the shared ones, without the statistics of batch norms."""
        network = skeleton(architecture)
        statistics = network.statistics()
        axes = {name: on for name, on in axes_of(network).items() if name not in statistics}
        maps: dict[str, Map] = {name: Leading(size) for name, size in axis_sizes(architecture).items()}
        maps |= {name: Centre(size) for name, size in sides(network).items()}
        kept = self.shared.of(network)
        return remap({name: self.weights[kept[name]] for name in axes}, axes, maps)

    def run(self, architecture: Architecture, images: Tensor, dropout: Dropout = NO_DROPOUT) -> Tensor:
        """Logits (B, classes) of one sub-network; gradients flow to the shared weights."""
        network = skeleton(architecture, training=True, dropout=dropout, spread=self.spread)
        logits: Tensor = functional_call(network, self.views(architecture), images)
        return logits

    def extract(self, architecture: Architecture, split: Split) -> Model:
        """One sub-network as a model of its own: copies of the views, and statistics found on the training `split`."""
        weights = {name: view.detach().cpu().clone() for name, view in self.views(architecture).items()}
        network = skeleton(architecture)
        weights |= {name: torch.ones(network.get_parameter(name).shape) for name in network.statistics()}
        return with_statistics(Model(architecture, weights, (self.step(split),)), split)

    def step(self, split: Split) -> Step:
        """The history step of what is extracted for the training `split`."""
        return Step(name="extract", arguments={"space": self.space.name, **written_with(split)}, version=__version__)

    def save(self, path: Path) -> None:
        """Writes the shared weights, atomically."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()}
        with replacing(path) as temporary:
            try:
                save_file(weights, temporary, metadata={"wb.supernet": self.space.name})
            except SafetensorError as error:  # its own error for a full disk
                raise OSError(str(error)) from error

    @staticmethod
    def load(path: Path, space: ElasticSpace, device: torch.device | str = "cpu") -> Supernet:
        """Reads a supernet that `save` wrote.

        Raises:
            BadArtefact: damaged, or of another space.
        """
        expected = {name: tuple(weight.shape) for name, weight in Supernet.fresh(space, 0).weights.items()}
        if not path.is_file():  # reading a pipe would block
            raise BadArtefact(f"{path} is no file; delete it and resume, the supernet is then trained again")
        try:
            with safe_open(path, framework="pt") as file:
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise BadArtefact(
                f"{path} is damaged ({error}); delete it and resume, the supernet is then trained again"
            ) from error
        weights |= apart(weights, expected)
        if {name: tuple(weight.shape) for name, weight in weights.items()} != expected:
            raise BadArtefact(f"{path} does not belong to this space; delete it and resume to train the supernet again")
        odd = [name for name, w in weights.items() if w.dtype != torch.float32 or not w.isfinite().all()]
        if odd:
            raise BadArtefact(
                f"{path} is damaged ({odd[0]} is not all finite float32); delete it and resume to train the supernet again"
            )
        return Supernet(space, {name: nn.Parameter(weight.to(device)) for name, weight in weights.items()})


def train_supernet(
    space: ElasticSpace,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    start: Model | None = None,
    checkpoint: Path | None = None,
    report: Report | None = None,
    team: Team = ALONE,
) -> Supernet:
    """Trains a supernet for `space` with the sandwich rule and in-place distillation.

    Source: Yu et al., "BigNAS", 2020: in every step the largest network learns from the labels; the smallest and some random
    networks learn from the largest one's output. Only the largest has dropout.
    Differs: the largest network trains alone for the first 30 % of the steps. With several kinds of mixer, the largest network
    of each step has one kind, drawn at random, so that each kind is trained at full width. One that starts from a trained model,
    `start`, which is its largest network, trains all of them from the first step; the largest then learns half from what
    the model answered. The processes of a `team` call this together, draw the same networks, and have the same weights.

    Raises:
        ProcessLost: another process of the team has ended.
        TrainingDiverged: the loss is NaN or infinite.
        Unsupported: processes are to share tokens, and a network cannot.
    """
    device = pick_device()
    supernet = Supernet.of(space, start, seed, device) if start else Supernet.fresh(space, seed, device)
    largest, tops = space.largest(), [skeleton(top) for top in space.tops()]

    named = [(top, supernet.shared.of(top)) for top in tops]
    network = partial(supernet.run, largest)
    check_sizes(network, data, recipe, supernet.device)
    if team.sequence > 1:
        for one in (*tops, skeleton(space.smallest())):
            check_spreads(one)
        supernet.spread = Spread(Channel.of(team))

    def look() -> Mirrored:
        return mirrored(network, data.validation, task_of(largest), supernet.device)

    fit(
        supernet.weights,
        sandwich(supernet, recipe, seed, 0.0 if start else WARM_UP, None if start is None else start.network(device)),
        data.train,
        recipe,
        seed=seed,
        decayed={kept[name] for top, kept in named for name in decayed(top)},
        matrices={kept[name]: outputs for top, kept in named for name, outputs in matrices(top).items()},
        probe=probing(recipe, look, warm=False),
        identity=f"data {data.fingerprint}, space {space.smallest().key} to {space.largest().key}"
        + (f", from {start.fingerprint()}" if start else ""),
        checkpoint=checkpoint,
        report=report,
        team=team,
    )
    supernet.spread = None
    return supernet


def sandwich(
    supernet: Supernet,
    recipe: Recipe,
    seed: int,
    alone: float = WARM_UP,
    teacher: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[Batch], float]:
    """The backward function of one step: gradients of the largest, the smallest and random networks; the largest one's loss.

    In a share `alone` of the steps there is only the largest. With a `teacher` it learns from that and from labels, half each.
    """
    space = supernet.space
    largest, task = space.tops(), task_of(space.largest())

    def run(architecture: Architecture, batch: Batch, dropout: Dropout = NO_DROPOUT) -> Tensor:
        return computed(partial(supernet.run, architecture, dropout=dropout), batch.inputs, recipe)

    def backward(batch: Batch) -> float:
        # Drawn from seed and step alone, so that a resumed run draws the same networks as an uninterrupted one.
        rng = random.Random(f"{seed}/{batch.step}")
        outputs = run(rng.choice(largest), batch, dropout_of(recipe))
        loss = taught(outputs, batch, answered(teacher, batch, recipe), recipe, task)
        loss.backward()
        if batch.step >= alone * batch.steps:
            others = [space.smallest()] + [space.decode(random_choices(space, rng)) for _ in range(RANDOM_NETWORKS)]
            for architecture in others:
                task.distillation(run(architecture, batch), outputs.detach()).backward()
        return loss.item()

    return backward
