"""Interpolation between the anchor and the other parents: loss and accuracy along the way, and the loss barrier.

Source: Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", 2020, for the barrier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wb.core.records import Frozen
from wb.data import Split
from wb.data.batches import batches, scored_at_once
from wb.models.model import Model
from wb.tasks.base import Grades
from wb.tasks.known import task_of
from wb.training.refit.trace import network_of

SHARES = tuple(i / 10 for i in range(11))
BATCH = 128


class Point(Frozen):
    """One mixture: the share of the other parents, mean cross-entropy in nats, accuracy as a fraction, or perplexity."""

    share: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Curve:
    """Points in order of their share, from 0 to 1."""

    points: Sequence[Point]

    @property
    def barrier(self) -> float:
        """The loss barrier: the largest excess of the loss over the straight line between both ends, in nats, at least 0."""
        first, last = self.points[0], self.points[-1]
        return max(p.loss - (1 - p.share) * first.loss - p.share * last.loss for p in self.points)


def interpolate(
    between: Callable[[float], Model], split: Split, report: Callable[[int, int], None] | None = None
) -> Curve:
    """The curve of the models that `between` makes for each share, read in torch on `split`."""
    points = []
    for i, share in enumerate(SHARES):
        if report is not None:
            report(i, len(SHARES))
        points.append(point(between(share), split, share))
    return Curve(points)


def point(model: Model, split: Split, share: float) -> Point:
    """Loss and accuracy of one model."""
    network, task = network_of(model), task_of(model.architecture)
    loss, grades = 0.0, []
    with torch.inference_mode():
        for images, labels in batches(split, scored_at_once(split, BATCH), shuffle=False):
            outputs = network(images)
            loss += float(task.loss(outputs, labels, reduction="sum"))
            grades.append(task.grade(outputs.numpy(), labels.numpy()).each)
    quality = task.reading(Grades(np.concatenate(grades), split.labels), "torch")
    return Point(share=share, loss=loss / len(split), accuracy=quality.value)
