"""The inquisitor's order of the archive, and its score against slow computations of the same."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from wb.core.measures.metrics import METRICS
from wb.core.measures.requirements import Asked, Requirement
from wb.core.space import Choices, Option
from wb.predictors.features import Encoder
from wb.search.sampler.inquisitor import Archive, Inquisitor, log_improvement

ASKED = Asked((Requirement(METRICS["latency"], "<=", 2.0), Requirement(METRICS["acc"], ">=", 0.8)))


class Plain:
    genes: ClassVar[dict[str, tuple[Option, ...]]] = {f"x{i}": (0, 1, 2) for i in range(4)}

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(choices)


ENCODER = Encoder(Plain())
ROWS = np.random.default_rng(0).integers(0, 3, (40, 4))
TOTAL = ROWS.sum(axis=1)
ARCHIVE = Archive(ROWS, {"latency": 0.5 + 0.4 * TOTAL, "acc": 0.5 + 0.06 * TOTAL})


def test_those_that_meet_come_first_by_worth_then_the_nearest() -> None:
    archive = Archive(
        np.zeros((5, 4), dtype=np.int64),
        {"latency": np.array([1.9, 1.0, 2.1, 4.0, 2.2]), "acc": np.array([0.9, 0.82, 0.9, 0.9, 0.7])},
    )
    assert archive.ordered(ASKED).tolist() == [1, 0, 2, 4, 3]
    fastest = Asked(ASKED.requirements, goal=METRICS["latency"])
    assert archive.ordered(fastest).tolist() == [1, 0, 2, 4, 3]
    best = Asked(ASKED.requirements, goal=METRICS["acc"])
    assert archive.ordered(best).tolist() == [0, 1, 2, 4, 3]


def test_the_smallest_margin_is_the_least_of_the_logarithms() -> None:
    archive = Archive(np.zeros((1, 4), dtype=np.int64), {"latency": np.array([1.0]), "acc": np.array([0.81])})
    assert archive.worth(ASKED)[0] == pytest.approx(np.log(0.2 / 0.19))


def test_without_a_network_that_meets_the_score_is_the_logarithm_of_the_probability() -> None:
    low = ARCHIVE.rows[TOTAL < 4], {name: values[TOTAL < 4] for name, values in ARCHIVE.values.items()}
    inquisitor = Inquisitor(ENCODER, Archive(*low), ASKED)
    assert inquisitor.best is None
    found = inquisitor.predict(ROWS)
    slow = [
        norm.logcdf((2.0 - found["latency"][0][i]) / found["latency"][1][i])
        + norm.logsf((0.8 - found["acc"][0][i]) / found["acc"][1][i])
        for i in range(len(ROWS))
    ]
    assert inquisitor.score(ROWS) == pytest.approx(slow)


def test_once_a_network_meets_better_ones_score_higher() -> None:
    loose = Asked((Requirement(METRICS["latency"], "<=", 5.0),), goal=METRICS["acc"])
    inquisitor = Inquisitor(ENCODER, ARCHIVE, loose)
    assert inquisitor.best == pytest.approx(ARCHIVE.values["acc"].max())
    rows = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]])
    assert (np.diff(inquisitor.score(rows)) > 0).all()


@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(-3, 3))
def test_the_expected_improvement_is_the_integral(mean: float, sd: float, best: float) -> None:
    slow, _ = quad(lambda z: max(mean + sd * z - best, 0) * norm.pdf(z), -9, 9, points=[(best - mean) / sd], limit=200)
    found = float(np.exp(log_improvement(np.array([mean]), np.array([sd]), best))[0])
    assert found == pytest.approx(slow, rel=1e-4, abs=1e-9)


def test_however_improbable_it_is_finite_and_in_order() -> None:
    means = -np.logspace(0, 2.9, 30)
    found = log_improvement(means, np.ones(30), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
