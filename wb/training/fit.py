"""The training loop of single networks and supernets; the caller says how a batch becomes gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wb.core.errors import BadArtefact, BadOption, WbError, printable, reason
from wb.core.files import irregular, replacing
from wb.data import Split
from wb.data.batches import batches, shift
from wb.models.model import write_torch
from wb.models.torchfile import read_torch


class TrainingDiverged(WbError, ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Recipe:
    """A training recipe: AdamW with a one-cycle learning rate, label smoothing, clipped gradients, small shifts of the images.

    The defaults suit small networks on small images; `learning_rate` is the peak.
    """

    epochs: int = 60
    learning_rate: float = 3e-3
    batch: int = 32
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    clip: float = 5.0
    augment: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise BadOption(f"{self.epochs} epochs train nothing; give 1 or more")

    def steps(self, examples: int) -> int:
        """Number of steps in all epochs."""
        return self.epochs * math.ceil(examples / self.batch)


@dataclass(frozen=True)
class Batch:
    """The batch of one step of `fit`: images (B, channels, height, width) in [0, 1], labels (B,), step and number of steps."""

    images: Tensor
    labels: Tensor
    step: int
    steps: int


Backward = Callable[[Batch], float]  # accumulates gradients, returns the loss
Report = Callable[[int, int, float], None]  # epoch that ended, epochs, mean loss


def pick_device() -> torch.device:
    """A GPU if torch finds one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def fit(
    weights: Mapping[str, nn.Parameter],
    backward: Backward,
    split: Split,
    recipe: Recipe,
    *,
    seed: int,
    identity: str = "",
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> None:
    """Trains `weights` in place for `recipe.epochs`.

    With `checkpoint`, the state is written there after every epoch. An existing checkpoint is continued if it has the same
    recipe, seed and `identity` (whatever else determines the training: data, architecture). The order of images depends on seed
    and epoch only, so that a resumed run sees the same batches as an uninterrupted one. `report` is called after every epoch,
    and once when a checkpoint is continued.

    Raises:
        TrainingDiverged: the loss is NaN or infinite.
        BadArtefact: the checkpoint is damaged or belongs to another run.
    """
    device = next(iter(weights.values())).device
    optimizer = torch.optim.AdamW(weights.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.steps(len(split))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    step = 0
    run = f"{recipe}, seed {seed}, {identity}"
    start, loss = _restore(checkpoint, weights, optimizer, schedule, run)
    if start and report is not None:
        report(start, recipe.epochs, loss)
    for epoch in range(start, recipe.epochs):
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        losses: list[float] = []
        per_epoch = steps // recipe.epochs
        for i, (images, labels) in enumerate(batches(split, recipe.batch, shuffle=True, generator=generator)):
            step = epoch * per_epoch + i
            if recipe.augment:
                images = shift(images, generator)
            optimizer.zero_grad(set_to_none=True)
            losses.append(backward(Batch(images.to(device), labels.to(device), step, steps)))
            if not math.isfinite(losses[-1]):
                raise TrainingDiverged(
                    f"the loss became {losses[-1]} in epoch {epoch + 1}; check the data for odd values, or train with a lower "
                    f"learning rate than {recipe.learning_rate}"
                )
            nn.utils.clip_grad_norm_(weights.values(), recipe.clip)
            optimizer.step()
            schedule.step()
        loss = sum(losses) / len(losses)
        if checkpoint is not None:
            _store(checkpoint, weights, optimizer, schedule, run, epoch + 1, loss)
        if report is not None:
            report(epoch + 1, recipe.epochs, loss)


def _store(
    path: Path,
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    run: str,
    epoch: int,
    loss: float,
) -> None:
    state = {
        "weights": {name: weight.detach() for name, weight in weights.items()},
        "optimizer": optimizer.state_dict(),
        "schedule": {k: v for k, v in schedule.state_dict().items() if isinstance(v, int | float | list)},
        "run": run,
        "epoch": epoch,
        "loss": loss,
    }
    with replacing(path) as temporary:
        write_torch(state, temporary)


def _restore(
    path: Path | None,
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    run: str,
) -> tuple[int, float]:
    """The number of finished epochs, and the mean loss of the last one."""
    if path is None or irregular(path) == "does not exist":
        return 0, math.nan
    try:
        state: Any = read_torch(path, "the state of a training that `wb` left")
        if state["run"] == run:
            return _continue(state, weights, optimizer, schedule)
        other = printable(str(state["run"]), 1000)
    except Exception as error:  # a damaged state may raise anything
        raise BadArtefact(
            f"checkpoint {path} is damaged ({reason(error)}); delete it to train from the start"
        ) from error
    raise BadArtefact(f"checkpoint {path} belongs to a run with other settings ({other}); delete it to start over")


def _continue(
    state: Mapping[str, Any],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> tuple[int, float]:
    stored = state["weights"]
    wrong = [n for n, w in weights.items() if stored[n].shape != w.shape or stored[n].dtype != w.dtype]
    if wrong:  # copying would repeat or cut numbers
        raise BadArtefact(f"its weights are of another network, first {wrong[0]}")
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(stored[name])
    return int(state["epoch"]), float(state.get("loss", math.nan))  # checkpoints of older versions have no loss
