"""Classification: outputs are class scores (n, classes), labels are integers (n,)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadData
from wb.core.measures.readings import Reading
from wb.core.statistics.scores import near, score
from wb.data import Dataset
from wb.data.preparation import CHECK
from wb.tasks.base import Grades
from wb.tasks.names import another_head, check_names, check_task

# A network that sees nothing in its images gives one answer more often than the largest class occurs, by this factor.
TRAIN = "train the network longer, or check that these are the data that it was trained for"
ONE_SIDED = 2.0


@dataclass(frozen=True)
class Classes:
    """Classification, judged by top-1 accuracy. A tie counts for the first class."""

    name: str = "classes"
    metric: str = "acc"

    def loss(
        self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """Cross-entropy in nats, with smoothed labels."""
        return F.cross_entropy(outputs, labels, label_smoothing=smoothing, reduction=reduction)

    def distillation(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """Cross-entropy of `outputs` (B, C) against the softened `target` scores (B, C), times temperature squared."""
        soft = (target / temperature).softmax(dim=-1)
        return F.cross_entropy(outputs / temperature, soft) * temperature**2

    def together(self, outputs: Sequence[Tensor]) -> Tensor:
        """Scores (B, C) whose softmax is the mean of the networks' probabilities."""
        each = torch.stack([scores.log_softmax(dim=-1) for scores in outputs])
        return each.logsumexp(dim=0) - math.log(len(outputs))

    def effects(self, outputs: Tensor, changed: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Effects by example (B,), from scores (B, classes) before and after a change, and labels (B,).

        `distance` is ‖y − ȳ‖₂ of the class probabilities, between 0 and √2; `kl` is KL(y ‖ ȳ) in nats; `agreement` is 1 if the
        first choice stays; `accuracy` is 1 if the changed first choice is right.
        """
        log_y, log_changed = outputs.float().log_softmax(dim=1), changed.float().log_softmax(dim=1)
        choice = changed.argmax(dim=1)
        return {
            "distance": (log_y.exp() - log_changed.exp()).norm(dim=1),
            # Rounding can make it slightly negative.
            "kl": F.kl_div(log_changed, log_y, reduction="none", log_target=True).sum(dim=1).clamp_min(0),
            "agreement": (choice == outputs.argmax(dim=1)).float(),
            "accuracy": (choice == labels).float(),
        }

    def votes(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The probabilities of the classes, in double precision."""
        raised = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def divergence(self, outputs: NDArray[Any], changed: NDArray[Any]) -> NDArray[Any]:
        """The Kullback-Leibler divergence (nats) of the class probabilities of `changed` from those of `outputs`, (n,)."""
        log_p, log_q = _log_softmax(outputs), _log_softmax(changed)
        return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=1))

    def agreement(self, outputs: NDArray[Any], changed: NDArray[Any]) -> float:
        """The share of examples with the same first choice."""
        return float((outputs.argmax(axis=1) == changed.argmax(axis=1)).mean())

    def check_outputs(self, outputs: NDArray[Any], labels: NDArray[Any], what: str) -> None:
        """Checks that `outputs` are finite class scores (n, classes), and that `labels` (n,) are among their classes.

        Raises:
            BadArtefact: other outputs.
            BadData: other labels.
        """
        if outputs.ndim != 2 or not outputs.shape[1]:
            raise BadArtefact(
                f"{what} gives {list(outputs.shape)} for {len(labels)} examples; class scores [{len(labels)}, classes] were "
                "expected"
            )
        classes = outputs.shape[1]
        if labels.min() < 0 or labels.max() >= classes:
            raise BadData(
                f"labels {labels.min()}..{labels.max()} do not fit the {classes} classes of {what} (0..{classes - 1})"
            )
        wrong = len(outputs) - int(np.isfinite(outputs).all(axis=1).sum())
        if wrong:
            raise BadArtefact(
                f"{what} gives scores that are not finite for {wrong} of {len(outputs)} examples; check its weights and its "
                "export"
            )

    def grade(self, outputs: NDArray[Any], labels: NDArray[Any]) -> Grades:
        """Which examples are classified correctly."""
        return Grades(outputs.argmax(axis=1) == labels, labels)

    def reading(self, grades: Grades, device: str) -> Reading:
        """The accuracy as `wb.core.statistics.scores.score` gives it; `n` is the number of examples."""
        return score(int(grades.each.sum()), grades.labels.tolist(), device)

    def doubt(self, reading: Reading, outputs: NDArray[Any], labels: NDArray[Any], *, own: bool = False) -> str | None:
        """A warning if an accuracy is near chance (`scores.near`) or cannot be told from it; otherwise None.

        It cannot be told from chance if the lower end of its interval is near chance.
        """
        largest = float(np.bincount(labels).max()) / len(labels)
        low = reading.interval[0] if reading.interval is not None else reading.value
        if not near(low, largest):
            return None
        often = np.bincount(outputs.argmax(axis=1))
        share = float(often.max()) / len(outputs)
        always = (
            f"; {100 * share:.0f} % of the answers are class {int(often.argmax())}"
            if share > ONE_SIDED * largest
            else ""
        )
        shares = f"the largest class has {100 * largest:.2f} % of the {len(labels)} images{always}"
        if near(reading.value, largest):
            what = f"is near chance ({shares})"
        else:
            what = (
                f"cannot be told from chance on so few images ({shares}, and the interval begins at {100 * low:.2f} %); "
                "give more"
            )
        return f"an accuracy of {100 * reading.value:.2f} % {what}: before you rely on it, {TRAIN if own else CHECK}"

    def check(self, architecture: Architecture, data: Dataset) -> None:
        """Raises `BadData` unless `data` have the classes of `architecture`, in its order.

        `wb.tasks.names.matched` puts the classes of data into a model's order.
        """
        check_task(architecture, data)
        if len(data.classes) != architecture.head.classes:
            raise BadData(
                f"data {data.spec!r} have {len(data.classes)} classes, and the model has {architecture.head.classes}; name other "
                f"data with --data, {another_head(data)}"
            )
        check_names(architecture.head.labels, data)


CLASSES = Classes()


def _log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    exact: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return exact
