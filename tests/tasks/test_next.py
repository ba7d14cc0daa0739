"""The task of foreseeing tokens: nats of torch's cross-entropy, with an interval that holds, and doubts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wb.core.errors import BadArtefact, BadData
from wb.core.specs import NO_LABEL
from wb.tasks.base import Grades
from wb.tasks.next import NEXT

SCORES = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 7, (6, 5), generator=torch.Generator().manual_seed(1))


def test_loss_and_perplexity_are_those_of_torch() -> None:
    nats = F.cross_entropy(SCORES.reshape(-1, 7), LABELS.reshape(-1))
    torch.testing.assert_close(NEXT.loss(SCORES, LABELS), nats)
    torch.testing.assert_close(NEXT.loss(SCORES, LABELS, reduction="sum"), 6 * nats)
    reading = NEXT.reading(NEXT.grade(SCORES.numpy(), LABELS.numpy()), "here")
    assert reading.value == pytest.approx(math.exp(nats.item()), rel=1e-6)
    assert reading.n == 6
    assert reading.note == f"{nats.item():.4f} nat a token, passages of 5 tokens"


def test_the_interval_of_a_perplexity_holds_its_mean() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        reading = NEXT.reading(Grades(random.normal(1.5, 0.2, 50), np.zeros((50, 8), np.int64)), "here")
        assert reading.interval is not None
        held += reading.interval[0] <= math.exp(1.5) <= reading.interval[1]
    assert held >= 180


def test_distillation_is_least_at_the_teacher_and_ensembles_average_probabilities() -> None:
    student = SCORES.clone().requires_grad_()
    NEXT.distillation(student, SCORES, 2.0).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(SCORES), atol=1e-7, rtol=0)
    mean = (SCORES.softmax(-1) + SCORES.flip(-1).softmax(-1)) / 2
    torch.testing.assert_close(NEXT.together([SCORES, SCORES.flip(-1)]).softmax(-1), mean)
    np.testing.assert_allclose(NEXT.votes(SCORES.numpy()), SCORES.double().softmax(-1).numpy(), rtol=1e-6)


def test_divergence_is_the_mean_over_tokens_and_effects_say_the_same() -> None:
    other = SCORES.roll(1, 0)
    kl = F.kl_div(other.log_softmax(-1), SCORES.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean(-1)
    np.testing.assert_allclose(NEXT.divergence(SCORES.numpy(), other.numpy()), kl.numpy(), rtol=1e-5)
    effects = NEXT.effects(SCORES, other, LABELS)
    torch.testing.assert_close(effects["kl"], kl)
    assert NEXT.effects(SCORES, SCORES, LABELS)["agreement"].eq(1).all()
    torch.testing.assert_close(effects["nats"].mean(), NEXT.loss(other, LABELS))


@pytest.mark.parametrize(
    ("outputs", "error", "why"),
    [
        (SCORES[:, 0].numpy(), BadArtefact, r"scores \[6, 5, vocabulary\] were expected"),
        (SCORES[..., :3].numpy(), BadData, "do not fit the 3"),
        (np.full((6, 5, 7), np.nan), BadArtefact, "not finite"),
    ],
)
def test_outputs_that_cannot_be_judged_are_refused(outputs: np.ndarray, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        NEXT.check_outputs(outputs, LABELS.numpy(), "the graph")
    NEXT.check_outputs(SCORES.numpy(), LABELS.numpy(), "the graph")


def test_what_is_no_better_than_frequencies_is_doubted() -> None:
    labels = np.repeat([[0, 0, 0, 1]], 30, axis=0)
    often = np.log(np.broadcast_to([0.75, 0.25], (30, 4, 2)))
    for scores, doubted in ((often, True), (np.eye(2)[labels] * 3, False)):
        reading = NEXT.reading(NEXT.grade(scores, labels), "here")
        assert (NEXT.doubt(reading, scores, labels) is not None) == doubted


def test_tokens_without_a_label_count_nowhere() -> None:
    """Each example is as heavy as it has labels: what torch says of those alone."""
    labels = LABELS.clone()
    labels[0, 2:], labels[4, 1:] = NO_LABEL, NO_LABEL
    there = labels != NO_LABEL
    nats = F.cross_entropy(SCORES[there], labels[there])
    torch.testing.assert_close(NEXT.loss(SCORES, labels), nats)
    grades = NEXT.grade(SCORES.numpy(), labels.numpy())
    reading = NEXT.reading(grades, "here")
    assert reading.value == pytest.approx(math.exp(nats.item()), rel=1e-6)
    assert reading.note == f"{nats.item():.4f} nat a token, 23 tokens of 6 texts, of each the first 5 at most"
    torch.testing.assert_close(NEXT.effects(SCORES, SCORES, labels)["nats"].double(), torch.from_numpy(grades.each))
    NEXT.check_outputs(SCORES.numpy(), labels.numpy(), "the graph")
    assert NEXT.doubt(reading, SCORES.numpy(), labels.numpy()) is not None
