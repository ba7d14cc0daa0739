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

from wb.data import Split
from wb.data.batches import batches, scored_at_once
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


def nearer(model: Model, found: Model, held: Split, wanted: Callable[[Tensor], Tensor]) -> Refitted:
    """`found`, or `model`, which it was made of, if it is not nearer to what is `wanted` for held-out examples.

    `wanted` answers on `pick_device`.
    """
    before, after = (_divergence(one, held, wanted) for one in (model, found))
    refit = Refit(images=len(held), noun=held.noun, cut=before, refitted=after)
    return Refitted(found if refit.kept else model, refit)


@torch.inference_mode()
def _divergence(model: Model, held: Split, wanted: Callable[[Tensor], Tensor]) -> float | None:
    """The mean divergence from the answers that are wanted; None for answers that are not finite."""
    device, task = pick_device(), task_of(model.architecture)
    network, found = model.network(device), list[Tensor]()
    for x, labels in batches(held, scored_at_once(held, BATCH), shuffle=False):
        given = network(x.to(device))
        if not given.isfinite().all():
            return None
        found.append(task.effects(wanted(x.to(device)), given, labels.to(device))["kl"].double().cpu())
    return float(torch.cat(found).mean())
