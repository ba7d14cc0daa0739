"""The task of classes against slow formulas; that the parts which several callers share agree with each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import binomtest

from wb.core.errors import BadArtefact, BadData
from wb.core.statistics.scores import score, wilson
from wb.tasks.base import Grades
from wb.tasks.classes import CLASSES

RNG = np.random.default_rng(0)
OUTPUTS, CHANGED = (3 * RNG.standard_normal((40, 5)).astype(np.float32) for _ in range(2))
LABELS = RNG.integers(0, 5, 40)
CHECKED = (
    (OUTPUTS.reshape(20, 2, 5), LABELS[:20], BadArtefact, r"m gives \[20, 2, 5\] for 20 examples; class scores"),
    (OUTPUTS, LABELS + 1, BadData, r"labels 1\.\.5 do not fit the 5 classes of m \(0\.\.4\)"),
    (OUTPUTS, LABELS - 1, BadData, r"labels -1\.\.3 do not fit"),
    (np.where(OUTPUTS > 0, np.nan, OUTPUTS)[:3], LABELS[:3], BadArtefact, "not finite for 3 of 3 examples"),
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_cross_entropy_with_smoothed_labels(smoothing: float) -> None:
    target = np.eye(5)[LABELS] * (1 - smoothing) + smoothing / 5
    each = -(target * log_softmax(OUTPUTS.astype(float), axis=1)).sum(axis=1)
    given, labels = torch.from_numpy(OUTPUTS), torch.from_numpy(LABELS)
    assert float(CLASSES.loss(given, labels, smoothing)) == pytest.approx(each.mean(), rel=1e-5)
    assert float(CLASSES.loss(given, labels, smoothing, "sum")) == pytest.approx(each.sum(), rel=1e-5)


def test_an_ensemble_has_the_mean_of_the_probabilities_in_torch_and_in_numpy() -> None:
    together = CLASSES.together([torch.from_numpy(each) for each in (OUTPUTS, CHANGED)]).numpy()
    mean = (softmax(OUTPUTS, axis=1) + softmax(CHANGED, axis=1)) / 2
    np.testing.assert_allclose(np.exp(together), mean, atol=1e-6)
    np.testing.assert_allclose((CLASSES.votes(OUTPUTS) + CLASSES.votes(CHANGED)) / 2, mean, atol=1e-6)


def test_divergence_and_effects_measure_the_same() -> None:
    p, q = softmax(OUTPUTS.astype(float), axis=1), softmax(CHANGED.astype(float), axis=1)
    found = CLASSES.effects(torch.from_numpy(OUTPUTS), torch.from_numpy(CHANGED), torch.from_numpy(LABELS))
    np.testing.assert_allclose(CLASSES.divergence(OUTPUTS, CHANGED), rel_entr(p, q).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found["kl"].numpy(), rel_entr(p, q).sum(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["distance"].numpy(), np.linalg.norm(p - q, axis=1), rtol=1e-4)
    assert float(found["agreement"].mean()) == pytest.approx(CLASSES.agreement(OUTPUTS, CHANGED))
    assert np.array_equal(found["accuracy"].numpy() == 1, CLASSES.grade(CHANGED, LABELS).each)


def test_a_teacher_is_matched_best_by_itself() -> None:
    target = torch.from_numpy(OUTPUTS)
    same = CLASSES.distillation(target, target, 2.0)
    assert all(CLASSES.distillation(target + 0.3 * torch.randn(40, 5), target, 2.0) > same for _ in range(5))
    p = softmax(OUTPUTS.astype(float) / 2, axis=1)
    assert float(same) == pytest.approx(-4 * (p * np.log(p)).sum(axis=1).mean(), rel=1e-5)


def test_grades_of_parts_are_grades_of_the_whole() -> None:
    whole = CLASSES.reading(CLASSES.grade(OUTPUTS, LABELS), "cpu")
    parts = [CLASSES.grade(OUTPUTS[rows], LABELS[rows]).each for rows in (slice(0, 7), slice(7, 40))]
    assert CLASSES.reading(Grades(np.concatenate(parts), LABELS), "cpu") == whole
    right = int((OUTPUTS.argmax(axis=1) == LABELS).sum())
    exact = binomtest(right, 40).proportion_ci(method="wilson")
    assert (whole.value, whole.n) == (right / 40, 40)
    assert whole.interval == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("right", [0, 20])
def test_wilson_at_the_ends(right: int) -> None:
    exact = binomtest(right, 20).proportion_ci(method="wilson")
    assert wilson(right, 20) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("given", "labels", "error", "message"), CHECKED)
def test_outputs_that_cannot_be_judged(
    given: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        CLASSES.check_outputs(given, labels, "m")


def test_outputs_that_can_be_judged() -> None:
    CLASSES.check_outputs(OUTPUTS, LABELS, "m")
    assert math.isfinite(CLASSES.reading(CLASSES.grade(OUTPUTS, LABELS), "cpu").value)


@pytest.mark.parametrize(
    ("images", "right", "says"),
    [
        (4, 4, "cannot be told from chance on so few images"),
        (4, 2, "is near chance"),
        (1000, 510, "is near chance"),
        (40, 40, None),
        (1000, 700, None),
    ],
)
def test_few_images_are_not_called_near_chance(images: int, right: int, says: str | None) -> None:
    labels = np.arange(images) % 2
    given = np.eye(2)[np.where(np.arange(images) < right, labels, 1 - labels)]
    said = CLASSES.doubt(score(right, labels.tolist(), "cpu"), given, labels)
    assert said is None if says is None else said is not None and says in said and "--mean" in said
    own = CLASSES.doubt(score(right, labels.tolist(), "cpu"), given, labels, own=True)
    assert own is None if says is None else own is not None and says in own and "--mean" not in own
