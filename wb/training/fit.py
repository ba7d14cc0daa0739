"""The training loop of single networks and supernets; the caller says how a batch becomes gradients."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from wb.core.errors import WbError
from wb.data import Split
from wb.data.batches import batches
from wb.scale.ring.order import order
from wb.scale.team import ALONE, Team
from wb.tasks.base import Task
from wb.training.arithmetic import quick_products
from wb.training.augment.mix import Mixed
from wb.training.augment.policy import augmented
from wb.training.average import Average
from wb.training.checkpoint import State
from wb.training.recipes.mirrored import Mirrored, notice
from wb.training.recipes.recipe import Recipe as Recipe
from wb.training.recipes.schedule import pieces, rates, side
from wb.training.shared.sharded import optimizer_of

_log = logging.getLogger(__name__)
_APART = 1 << 40  # between the seeds of dropout and those of images


class TrainingDiverged(WbError, ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Batch:
    """The batch of one step of `fit`: inputs as networks take them (B, ...), labels (B,), step and number of steps.

    Images are in [0, 1] (B, channels, height, width), `mixed` says what else is in them; texts are ids (B, N).
    """

    inputs: Tensor
    labels: Tensor
    step: int
    steps: int
    mixed: Mixed | None = None

    def loss(self, outputs: Tensor, task: Task, smoothing: float) -> Tensor:
        """The task's loss; of mixed images, that of both labels by their shares."""
        own = task.loss(outputs, self.labels, smoothing)
        if self.mixed is None:
            return own
        share = self.mixed.share
        return share * own + (1 - share) * task.loss(outputs, self.mixed.labels, smoothing)

    def part(self, team: Team) -> tuple[Batch, float]:
        """What this process computes of it, and the share of the batch that this is.

        Of tokens that processes share (`wb.scale.ring.order`) these are also some columns, of inputs and labels (B, N).
        """
        if team.alone:
            return self, 1.0
        rows, share = team.rows(len(self.labels))
        mixed = None if self.mixed is None else self.mixed._replace(labels=self.mixed.labels[rows])
        inputs, labels = self.inputs[rows], self.labels[rows]
        if team.sequence > 1:
            own = order(inputs.shape[1], team.place, team.sequence)
            inputs, labels = inputs[:, own], labels[:, own]
        return replace(self, inputs=inputs, labels=labels, mixed=mixed), share

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        mixed = None if self.mixed is None else self.mixed.to(device)
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device), mixed=mixed)


Backward = Callable[[Batch], float]  # accumulates gradients, returns the loss
Report = Callable[[int, int, float], None]  # epoch that ended, epochs, mean loss


@dataclass(frozen=True)
class Probe:
    """Looks before epoch `at` whether mirrored images keep their class; there are no flips until then."""

    at: int
    look: Callable[[], Mirrored]


def pick_device() -> torch.device:
    """A GPU if torch finds one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@quick_products()
def fit(
    weights: Mapping[str, nn.Parameter],
    backward: Backward,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    decayed: Collection[str],
    matrices: Mapping[str, int] | None = None,
    statistics: Mapping[str, Tensor] | None = None,
    probe: Probe | None = None,
    identity: str = "",
    checkpoint: Path | None = None,
    report: Report | None = None,
    team: Team = ALONE,
) -> Mirrored | None:
    """Trains `weights` in place for `recipe.epochs`, and returns what `probe` saw, if it looked.

    Those named in `decayed` have weight decay; `matrices` are those that Muon may train (`wb.training.optimizer`). `statistics`
    are what the network keeps beside weights (of BatchNorms); they are stored and averaged like these.

    With `checkpoint`, the state is written there after every epoch. An existing checkpoint is continued if it has the same
    recipe, seed and `identity` (whatever else determines the training: data, architecture). The order of images and all draws
    depend on seed and epoch only, so that a resumed run sees the same batches as an uninterrupted one. `report` is called after
    every epoch, and once when a checkpoint is continued.

    With a `team` each of its processes computes its part of every batch, on the same weights: those that the first one has
    in the beginning. That one writes the checkpoint, which does not know how many there are, and reports. They divide the
    optimizer's state among them where it is large (`wb.training.shared.sharded`).

    Raises:
        TrainingDiverged: the loss is NaN or infinite.
        BadArtefact: the checkpoint is damaged or belongs to another run.
        ProcessLost: another process of the team has ended.
    """
    values: dict[str, Tensor] = {**(statistics or {}), **weights}
    optimizer = optimizer_of(team, weights, recipe, decayed=decayed, matrices=matrices or {})
    state = State(values, optimizer, f"{recipe}, seed {seed}, {identity}")
    state.average = Average(values) if recipe.average else None
    if checkpoint is not None:
        with team.copied(checkpoint) as copy:
            state.restore(copy)
    team.agree(values.values())
    report = report if team.leads else None
    if state.epoch and report is not None:
        report(state.epoch, recipe.epochs, state.loss)
    while state.epoch < recipe.epochs:
        flips = recipe.flip != "off" and (probe is None or state.epoch >= probe.at)
        if flips and probe is not None:
            state.mirrored = state.mirrored or _looked(probe, recipe, team)
            flips = recipe.flip == "on" or state.mirrored.keeps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_APART * (1 + team.rank) + seed * 100_003 + state.epoch)  # for dropout
            state.loss = _epoch(state, weights, backward, split, recipe, seed, team, flips=flips)
        state.epoch += 1
        if checkpoint is not None:
            state.store(checkpoint, write=team.leads)
        if report is not None:
            report(state.epoch, recipe.epochs, state.loss)
    if state.average is not None:
        state.average.settle()
    return state.mirrored


def _looked(probe: Probe, recipe: Recipe, team: Team) -> Mirrored:
    """What the probe of the first process sees; the user is told if mirrored images are other ones."""
    found = Mirrored(*json.loads(team.shared(lambda: json.dumps(probe.look()).encode())))
    if team.leads and (note := notice(recipe.flip, found)) is not None:
        _log.warning(note)
    return found


def _epoch(
    state: State,
    weights: Mapping[str, nn.Parameter],
    backward: Backward,
    split: Split,
    recipe: Recipe,
    seed: int,
    team: Team,
    *,
    flips: bool,
) -> float:
    """The mean loss of one epoch."""
    device = next(iter(weights.values())).device
    steps, optimizer = recipe.steps(len(split)), state.optimizer
    generator = torch.Generator().manual_seed(seed * 100_003 + state.epoch)
    by_size = recipe.resolution and split.task == "classes"
    size = side(recipe, state.epoch, min(split.images.shape[2:])) if by_size else 0
    split = split.varied(recipe.merge_dropout, seed * 100_003 + state.epoch)
    parts = 1 if by_size else pieces(recipe, state.epoch)
    split = split if parts == 1 else split.shortened(parts)
    losses: list[float] = []
    first = state.epoch * (steps // recipe.epochs)
    for step, (images, labels) in enumerate(
        batches(split, recipe.batch * parts, shuffle=True, generator=generator), first
    ):
        images, mixed = augmented(images, labels, recipe, generator, flips=flips, side=size)
        optimizer.zero_grad()
        own, share = Batch(images, labels, step, steps, mixed).part(team)
        losses.append(team.reduce(weights, share, backward(own.to(device))))
        if not math.isfinite(losses[-1]):
            raise TrainingDiverged(
                f"the loss became {losses[-1]} in epoch {state.epoch + 1}; check the data for odd values, or train with a lower "
                f"learning rate than {recipe.learning_rate}"
            )
        nn.utils.clip_grad_norm_(weights.values(), recipe.clip)
        optimizer.step(rates(recipe, step, steps))
        if state.average is not None:
            state.average.follow(step)
    return sum(losses) / len(losses)
