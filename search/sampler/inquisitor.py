"""The inquisitor: how probable predictors find it that a network meets requirements, and how much better it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx
from scipy.stats import norm

from wb.core.measures.requirements import Asked, Requirement
from wb.predictors.ensemble import Ensemble
from wb.predictors.features import Encoder, Floats, Indices
from wb.search.sampler.proposals import FAR_IMPORTANCE, NEAR

LEAST_SD = 1e-9
FARTHEST = 1e8  # standard deviations: beyond, all improvements are equally improbable


@dataclass(frozen=True)
class Archive:
    """Evaluated networks: canonical rows (rows, genes), and the value of each metric, shape (rows,)."""

    rows: Indices
    values: Mapping[str, Floats]

    @staticmethod
    def of(rows: Sequence[Indices], values: Sequence[Mapping[str, float]], asked: Asked) -> Archive:
        """The archive of networks with these values by metric, as far as they are asked for."""
        columns = {name: np.array([found[name] for found in values]) for name in sorted(asked.metrics)}
        return Archive(np.array(rows), columns)

    def violations(self, requirements: Sequence[Requirement]) -> Floats:
        """Of each row and requirement, (rows, requirements), below 0 on the right side of the bound."""
        columns = [[one.violation(value) for value in self.values[one.metric.name]] for one in requirements]
        return np.array(columns, dtype=np.float64).reshape(len(requirements), len(self.rows)).T

    def worth(self, asked: Asked) -> Floats:
        """The universal performance U of each row, more is better: the goal's value or the smallest margin."""
        if asked.goal is None:
            return np.asarray(-self.violations(asked.requirements).max(axis=1))
        return self.values[asked.goal.name] * (1.0 if asked.goal.direction == "maximize" else -1.0)

    def ordered(self, asked: Asked) -> Indices:
        """The indices of the rows from best to worst: those that meet all requirements by worth, then by sum of violations."""
        short = np.maximum(self.violations(asked.requirements), 0).sum(axis=1)
        return np.lexsort((-self.worth(asked), short))


class Inquisitor:
    """Scores networks by predictors fitted on the archive.

    The score is the sum over the requirements of the logarithm of the probability that each is met and, once one network meets
    all, the logarithm of the expected improvement over the best such network.

    Source: Gardner et al., Bayesian optimization with inequality constraints, ICML 2014; expected improvement in the stable
    form of Ament et al., arXiv 2310.20708.
    Differs: sums of logarithms; the smallest margin is taken for normal, with the deviation of the requirement that is tightest.
    Limits: metrics are taken for independent.
    """

    def __init__(self, encoder: Encoder, archive: Archive, asked: Asked, seed: int = 0) -> None:
        self.encoder, self.asked = encoder, asked
        features = encoder.features(archive.rows)
        order = archive.ordered(asked)
        importance = np.full(len(order), FAR_IMPORTANCE)
        importance[order[: max(round(NEAR * len(order)), 1)]] = 1.0
        self.models = {
            name: Ensemble(encoder.layout, seed).fit(features, archive.values[name], importance)
            for name in sorted(asked.metrics)
        }
        meeting = (archive.violations(asked.requirements) <= 0).all(axis=1)
        self.best = float(archive.worth(asked)[meeting].max()) if meeting.any() else None

    def predict(self, rows: Indices) -> dict[str, tuple[Floats, Floats]]:
        """Metric -> mean and standard deviation of each row."""
        features = self.encoder.features(rows)
        return {name: model.predict(features) for name, model in self.models.items()}

    def score(self, rows: Indices) -> Floats:
        """One score per row, more is better."""
        found = self.predict(rows)
        total = np.zeros(len(rows))
        for one in self.asked.requirements:
            mean, sd = found[one.metric.name]
            side = 1.0 if one.sign == "<=" else -1.0
            total += norm.logcdf(side * (one.bound - mean) / np.maximum(sd, LEAST_SD))
        if self.best is None:
            return total
        mean, sd = self._worth(found)
        return np.asarray(total + log_improvement(mean, sd, self.best))

    def _worth(self, found: Mapping[str, tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the worth of each row."""
        goal = self.asked.goal
        if goal is not None:
            mean, sd = found[goal.name]
            return (mean if goal.direction == "maximize" else -mean), sd
        margins, deviations = [], []
        for one in self.asked.requirements:
            mean, sd = found[one.metric.name]
            margins.append([-one.violation(value) for value in mean])
            deviations.append(sd * np.abs([one.slope(value) for value in mean]))
        tightest = np.argmin(margins, axis=0)[None]
        pick = [np.take_along_axis(np.array(part), tightest, axis=0)[0] for part in (margins, deviations)]
        return pick[0], pick[1]


def log_improvement(mean: Floats, sd: Floats, best: float) -> Floats:
    """The logarithm of the expected improvement of normal values over `best`, finite however improbable it is."""
    sd = np.maximum(sd, LEAST_SD)
    z = np.clip((mean - best) / sd, -FARTHEST, None)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # of the branch that is not taken
        above = np.log(norm.pdf(z) + z * norm.cdf(z))
        # φ(z) (1 + z Φ(z)/φ(z)); far below, the bracket is 1/z² to leading order
        bracket = np.where(z > -20, 1 + z * np.sqrt(np.pi / 2) * erfcx(-z / np.sqrt(2)), 1 / z**2)
        below = norm.logpdf(z) + np.log(bracket)
    return np.asarray(np.where(z > -1, above, below) + np.log(sd))
