"""The outputs of two models on the same images: how far they agree, and which is right more often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.measures.readings import Reading
from wb.core.statistics.paired import Paired
from wb.core.statistics.scores import wilson
from wb.jobs.diff.record import Outputs
from wb.tasks.classes import CLASSES
from wb.tasks.next import NEXT

SURE = 1.96  # deviations of a 95 % interval

Scores = NDArray[Any]  # (n, classes)


def reordered(scores: Scores, own: Sequence[str], other: Sequence[str]) -> tuple[Scores, str | None]:
    """The scores of classes named `other` in the order of `own`, and a note if that took something.

    Classes are matched by index where only one of them names its classes, or where the names differ.
    """
    if tuple(own) == tuple(other) or scores.ndim != 2:
        return scores, None
    if len(set(own)) == len(own) == len(other) == scores.shape[1] and set(own) == set(other):
        order = [list(other).index(name) for name in own]
        return scores[:, order], "both have the same classes in another order: they are matched by name"
    return scores, "classes are matched by their order, for their names differ" if own and other else None


def compare_outputs(
    a: Scores, b: Scores, labels: NDArray[np.int64] | None, data: str, noun: str = "images"
) -> tuple[Outputs | None, str | None]:
    """How far `b` is from `a`, examples with `labels` unless they are made up; or why they cannot be compared.

    Where there are scores for each token, (n, tokens, vocabulary), first choices and divergences are those of all tokens.
    """
    count, ppl, apart_nats = len(a), None, None
    if noun == "passages" and a.ndim == b.ndim == 3 and a.shape == b.shape:
        if labels is not None and np.isfinite(a).all() and np.isfinite(b).all():
            ppl, apart_nats = _foreseen(a, b, labels)
        a, b, labels = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), None
    for scores in (a, b):
        if scores.ndim != 2 or not np.isfinite(scores).all():
            return None, "predictions are not compared: one of the two gives no finite class scores"
    if a.shape != b.shape:
        return None, f"predictions are not compared: one has {a.shape[1]} classes and the other {b.shape[1]}"
    same = int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
    agreement = Reading(
        value=same / len(a),
        unit="fraction",
        how="measured",
        interval=None if labels is None else wilson(same, len(a)),
        n=len(a),
    )
    apart = a.astype(np.float64) - b
    sizes = [float(np.linalg.norm(scores.astype(np.float64))) for scores in (a, b)]
    accuracy, paired = (None, None) if labels is None else _judged(a, b, labels)
    return Outputs(
        data=data,
        images=count,
        noun=noun,
        made_up=labels is None and ppl is None,
        agreement=agreement,
        kl=max(0.0, float(CLASSES.divergence(a, b).mean())),
        largest=float(np.abs(apart).max()),
        distance=float(np.linalg.norm(apart)) / (sizes[0] or sizes[1] or 1.0),
        accuracy=accuracy,
        paired=paired,
        ppl=ppl,
        nats=apart_nats,
    ), None


def _foreseen(a: Scores, b: Scores, labels: NDArray[np.int64]) -> tuple[tuple[Reading, Reading], Reading]:
    """Both perplexities, and how many nats more a token costs B, with the interval of the mean over passages."""
    grades = [NEXT.grade(scores, labels) for scores in (a, b)]
    one, other = (NEXT.reading(grade, "").model_copy(update={"device": None}) for grade in grades)
    more = grades[1].each - grades[0].each
    near = SURE * float(more.std(ddof=1)) / math.sqrt(len(more)) if len(more) > 1 else math.inf
    mean = float(more.mean())
    interval = (mean - near, mean + near) if math.isfinite(near) else None
    return (one, other), Reading(value=mean, unit="nat", how="measured", interval=interval, n=len(more))


def _judged(a: Scores, b: Scores, labels: NDArray[np.int64]) -> tuple[tuple[Reading, Reading], Paired]:
    """Both accuracies, and how often only one is right; B's counts as the first."""
    grades = [CLASSES.grade(scores, labels) for scores in (a, b)]
    one, other = (CLASSES.reading(grade, "") for grade in grades)
    own, theirs = (grade.each.tolist() for grade in grades)
    return (
        (one.model_copy(update={"device": None}), other.model_copy(update={"device": None})),
        Paired.of(theirs, own),
    )
