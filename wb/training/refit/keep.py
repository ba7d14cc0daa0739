"""Keep what helps: weights that were found in closed form are taken only if they are nearer to what was to be approached.

Images that nothing was fitted to decide, without labels, so that validation images still judge the result. Compensation of cuts,
the correction of `wb search --from` and that of fused averages all end here; fine-tuning is judged on validation images
(`wb.core.statistics.verdict.worsened`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wb.models.model import Model
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.refit.judged import Refit

HELD = 256  # training images at most, and one in `OTHERS` of all, that only judge
OTHERS = 5
BATCH = 64


class Refitted(NamedTuple):
    """The network that is kept, and what refitting did."""

    model: Model
    refit: Refit


def fitted_on(count: int, most: int) -> int:
    """How many of `count` images are fitted on, at most `most`; some of the others judge."""
    return max(1, min(most, count - max(1, min(HELD, count // OTHERS))))


def nearer(model: Model, found: Model, images: Tensor, wanted: Tensor) -> Refitted:
    """`found`, or `model`, which it was made of, if `found` is not nearer to the answers `wanted` for held-out `images`."""
    before, after = (_divergence(one, images, wanted) for one in (model, found))
    refit = Refit(images=len(images), cut=before, refitted=after)
    return Refitted(found if refit.kept else model, refit)


def answers(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a network on `pick_device` answers to images (n, ...): (n, ...)."""
    with torch.inference_mode():
        return torch.cat([network(part.to(pick_device())).cpu() for part in images.split(BATCH)])


def _divergence(model: Model, images: Tensor, wanted: Tensor) -> float | None:
    """The mean divergence from the answers that are wanted; None for answers that are not finite."""
    found = answers(model.network(pick_device()), images)
    if not found.isfinite().all():
        return None
    nobody = torch.zeros(len(images), dtype=torch.long)
    return float(task_of(model.architecture).effects(wanted, found, nobody)["kl"].double().mean())
