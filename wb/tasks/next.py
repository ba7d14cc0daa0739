"""Language modelling: outputs are scores of every token (n, length, vocabulary), labels the tokens that follow (n, length)."""

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
from wb.core.specs import NO_LABEL
from wb.data import Dataset
from wb.tasks.base import Grades
from wb.tasks.names import check_task

_SURE = 1.96  # deviations of a 95 % interval
PPL = "ppl"


@dataclass(frozen=True)
class Next:
    """The next token, judged by perplexity: the exponential of the mean nats that a token has cost."""

    name: str = "next"
    metric: str = PPL

    def loss(
        self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """Cross-entropy in nats a token; summed it is over the examples, each the mean of its tokens."""
        flat, following = outputs.flatten(0, 1), labels.flatten()
        found = F.cross_entropy(flat, following, label_smoothing=smoothing, ignore_index=NO_LABEL)
        return found if reduction == "mean" else found * len(outputs)

    def distillation(self, outputs: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
        """Cross-entropy against the softened `target` scores, times temperature squared; the mean over tokens."""
        soft = (target / temperature).softmax(dim=-1).flatten(0, 1)
        return F.cross_entropy((outputs / temperature).flatten(0, 1), soft) * temperature**2

    def together(self, outputs: Sequence[Tensor]) -> Tensor:
        """Scores whose softmax is the mean of the networks' probabilities."""
        each = torch.stack([scores.log_softmax(dim=-1) for scores in outputs])
        return each.logsumexp(dim=0) - math.log(len(outputs))

    def effects(self, outputs: Tensor, changed: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Effects by example (B,), each the mean over its tokens.

        `distance` is ‖y − ȳ‖₂ of the probabilities of the tokens, `kl` is KL(y ‖ ȳ) in nats, `agreement` the share of tokens
        whose first choice stays, `nats` what the labels cost behind the change.
        """
        log_y, log_changed = outputs.float().log_softmax(dim=-1), changed.float().log_softmax(dim=-1)
        kl = F.kl_div(log_changed, log_y, reduction="none", log_target=True).sum(dim=-1)
        counted = (labels != NO_LABEL).float()

        def mean(values: Tensor) -> Tensor:
            return (values * counted).sum(dim=1) / counted.sum(dim=1)

        nats = -log_changed.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        agreement = (changed.argmax(dim=-1) == outputs.argmax(dim=-1)).float()
        return {
            "distance": mean((log_y.exp() - log_changed.exp()).norm(dim=-1)),
            "kl": mean(kl).clamp_min(0),
            "agreement": mean(agreement),
            "nats": mean(nats),
        }

    def votes(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The probabilities of the tokens, in double precision."""
        return np.exp(_log_softmax(outputs))

    def divergence(self, outputs: NDArray[Any], changed: NDArray[Any]) -> NDArray[Any]:
        """The Kullback-Leibler divergence (nats) of `changed` from `outputs`, the mean over an example's tokens, (n,)."""
        log_p, log_q = _log_softmax(outputs), _log_softmax(changed)
        return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean(axis=-1))

    def check_outputs(self, outputs: NDArray[Any], labels: NDArray[Any], what: str) -> None:
        """Checks that `outputs` are finite scores (n, length, vocabulary), and that `labels` (n, length) are among them.

        Raises:
            BadArtefact: other outputs.
            BadData: other labels.
        """
        if outputs.ndim != 3 or outputs.shape[:2] != labels.shape or not outputs.shape[2]:
            wanted = ", ".join(map(str, labels.shape))
            raise BadArtefact(
                f"{what} gives {list(outputs.shape)} for tokens [{wanted}]; scores [{wanted}, vocabulary] were expected"
            )
        if labels.min() < NO_LABEL or labels.max() >= outputs.shape[2]:
            raise BadData(
                f"tokens {labels.min()}..{labels.max()} do not fit the {outputs.shape[2]} that {what} knows; name the data that "
                "it was trained with"
            )
        if not np.isfinite(outputs).all():
            raise BadArtefact(f"{what} gives scores that are not finite; check its weights and its export")

    def grade(self, outputs: NDArray[Any], labels: NDArray[Any]) -> Grades:
        """The nats that an example's tokens cost in the mean."""
        nats = -np.take_along_axis(_log_softmax(outputs), np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
        counted = labels != NO_LABEL
        return Grades((nats * counted).sum(axis=-1) / counted.sum(axis=-1), labels)

    def reading(self, grades: Grades, device: str) -> Reading:
        """The perplexity, whose interval is that of the mean over passages, each as heavy as it has tokens; `n` counts them."""
        tokens, count = (grades.labels != NO_LABEL).sum(axis=1), len(grades.each)
        nats = float(np.average(grades.each, weights=tokens))
        spread = float(np.square(tokens * (grades.each - nats)).sum()) ** 0.5 / float(tokens.sum())
        near = _SURE * spread * math.sqrt(count / (count - 1)) if count > 1 else math.inf
        longest = grades.labels.shape[1]
        whole = f"passages of {longest} tokens"
        several = f"{tokens.sum():,} tokens of {count} texts, of each the first {longest} at most"
        return Reading(
            value=math.exp(nats),
            unit=PPL,
            how="measured",
            interval=(math.exp(nats - near), math.exp(nats + near)) if math.isfinite(near) else None,
            n=count,
            device=device,
            note=f"{nats:.4f} nat a token, {whole if (tokens == longest).all() else several}",
        )

    def doubt(self, reading: Reading, outputs: NDArray[Any], labels: NDArray[Any], *, own: bool = False) -> str | None:
        """A warning unless it is better than to foresee every token as often as it occurs in these texts; otherwise None."""
        found = labels[labels != NO_LABEL]
        shares = np.bincount(found) / found.size
        often = math.exp(-float((shares * np.log(np.maximum(shares, 1e-30))).sum()))
        if reading.value < often:
            return None
        return (
            f"a perplexity of {reading.value:.4g} is no better than that of guessing by frequency alone, {often:.4g}: before you "
            "rely on it, train the network longer, or check that these are texts like those that it was trained with"
        )

    def check(self, architecture: Architecture, data: Dataset) -> None:
        """Raises `BadData` unless `data` are passages of a text."""
        check_task(architecture, data)


NEXT = Next()


def _log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    shifted = scores.astype(np.float64) - scores.max(axis=-1, keepdims=True)
    exact: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return exact
