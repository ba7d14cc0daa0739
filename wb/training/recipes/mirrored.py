"""Whether mirrored images keep their class, told by a network that was trained without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wb.data import Split
from wb.data.batches import batches
from wb.tasks.base import Task
from wb.training.recipes.recipe import Flip

MOST = 2_000  # images that are looked at
_LOST = 1 / 3  # of what a network knows beyond chance; natural images lose far less
_SURE = 3.0  # standard errors


class Mirrored(NamedTuple):
    """Shares of `images` validation images that a network gets right: as they are, mirrored, and by naming the largest class."""

    plain: float
    mirrored: float
    chance: float
    images: int

    @property
    def keeps(self) -> bool:
        """False if so much is lost by mirroring that classes must differ by it."""
        lost = self.plain - self.mirrored
        error = (2 * self.plain * (1 - self.plain) / self.images) ** 0.5
        return bool(lost <= max(_LOST * (self.plain - self.chance), _SURE * error))

    @property
    def text(self) -> str:
        """`a network trained without flips knows 78.0 % of 500 validation images, and 31.2 % of them mirrored`."""
        return (
            f"a network trained without flips knows {self.plain:.1%} of {self.images:,} validation images, and "
            f"{self.mirrored:.1%} of them mirrored"
        )


def notice(flip: Flip, found: Mirrored | None) -> str | None:
    """What to tell the user, if anything."""
    if found is None or found.keeps:
        return None
    if flip == "on":
        return f"flips hurt here, since {found.text}; --no-flip leaves them out"
    return f"flips were left out, since {found.text}; --flip makes them all the same"


def mirrored(network: Callable[[Tensor], Tensor], split: Split, task: Task, device: torch.device) -> Mirrored:
    """What `network` makes of up to `MOST` images of `split`, as they are and mirrored.

    Limits: for tasks whose grades are right or wrong.
    """
    split = split.take(slice(0, len(split), max(1, -(-len(split) // MOST))))  # spread, as splits may lie by class
    right = [0.0, 0.0]
    with torch.inference_mode():
        for images, labels in batches(split, 256, shuffle=False):
            for way, seen in enumerate((images, images.flip(-1))):
                outputs = network(seen.to(device)).cpu().numpy()
                right[way] += float(task.grade(outputs, labels.numpy()).each.sum())
    count = len(split)
    largest = float(torch.bincount(torch.from_numpy(split.labels)).max()) / count
    return Mirrored(right[0] / count, right[1] / count, largest, count)
