"""A regression of one scalar on few samples: ridge and boosted trees, weighted by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import kendalltau
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from wb.core.errors import BadOption
from wb.predictors.features import Floats

ALPHAS = np.logspace(-2, 4, 13)
FOLDS = 4


@dataclass(frozen=True)
class Quality:
    """How well a value is predicted for candidates that were not in the fit (cross-validated).

    `kendall` is Kendall's tau between predicted and true values, `rmse` has the unit of the values, `relative_error` is
    rmse over the mean absolute value, `samples` the number of true values, `model` what made the predictions.
    """

    kendall: float
    rmse: float
    relative_error: float
    samples: int
    model: str


class Ensemble:
    """Weighted sum of standardised ridge and gradient boosted trees, with a standard deviation per prediction.

    The weights are the non-negative least squares fit of the true values by the predictions for held-out folds. The
    standard deviation combines the held-out error with the disagreement of the trees of different folds.

    Source: Breiman, Stacked regressions, Machine Learning 24 (1996). Differs: the trees that predict are those of the
    folds, averaged, so that nothing is fitted twice; the ridge is fitted once on everything.
    Limits: below `2 * FOLDS` samples only the ridge is used, with an error estimated by leaving one out.
    """

    def __init__(self, emphasis: Floats, seed: int = 0) -> None:
        """`emphasis` multiplies the standardised columns for the ridge: larger means less regularised."""
        self.emphasis = emphasis
        self.seed = seed
        self.quality = Quality(0.0, float("inf"), float("inf"), 0, "none")

    def fit(self, features: Floats, values: Floats) -> Ensemble:
        """Fits one value per row of features.

        Raises:
            BadOption: there is no sample, or a value is not finite.
        """
        if len(values) == 0 or not np.isfinite(values).all():
            raise BadOption(f"a predictor needs at least one value, all finite; got {len(values)} values")
        self._centre = float(values.mean())
        self._scale = float(values.std()) or 1.0
        target = (values - self._centre) / self._scale
        self._scaler = StandardScaler().fit(features)
        columns = self._columns(features)
        self._ridge = RidgeCV(ALPHAS).fit(columns, target)
        self._fit_folds(features, columns, target)
        return self

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation per row, in the unit of the fitted values."""
        mean, votes = self._mean_and_votes(features)
        return self._centre + self._scale * mean, self._scale * np.sqrt(self._error**2 + votes.var(axis=0))

    def votes(self, features: Floats) -> Floats:
        mean, votes = self._mean_and_votes(features)
        return self._centre + self._scale * (mean + np.sqrt(len(votes) - 1) * (votes - votes.mean(axis=0)))

    def _mean_and_votes(self, features):
        columns = self._columns(features)
        ridge = np.stack([model.predict(columns) for model in self._ridges])
        mean = self._weights[0] * self._ridge.predict(columns)
        votes = self._weights[0] * ridge
        if self._weights[1] > 0:
            trees = np.stack([model.predict(features) for model in self._trees])
            mean = mean + self._weights[1] * trees.mean(axis=0)
            votes = votes + self._weights[1] * trees
        return mean, votes

    def _fit_folds(self, features, columns, target):
        self._ridges, self._trees = [], []
        held = np.empty((len(target), 2))
        for train, test in KFold(FOLDS, shuffle=True, random_state=self.seed).split(features):
            ridge = Ridge(self._ridge.alpha_).fit(columns[train], target[train])
            trees = GradientBoostingRegressor(
                n_estimators=100, learning_rate=0.15, max_depth=2, subsample=0.7, max_features=0.3, random_state=self.seed
            ).fit(features[train], target[train])
            held[test, 0] = ridge.predict(columns[test])
            held[test, 1] = trees.predict(features[test])
            self._ridges.append(ridge)
            self._trees.append(trees)
        self._weights = _weights(held, target)
        out = held @ self._weights
        self._error = float(np.sqrt(np.mean((out - target) ** 2)))
        self.quality = _quality(self._centre + self._scale * out, self._centre + self._scale * target, "x")

    def _columns(self, features: Floats) -> Floats:
        return np.asarray(self._scaler.transform(features)) * self.emphasis

    def _fit_trees(self, features: Floats, target: Floats) -> Floats:
        """Fits one model per fold and returns the predictions for the samples that each left out."""
        held_out = np.empty(len(target))
        for train, test in KFold(FOLDS, shuffle=True, random_state=self.seed).split(features):
            trees = GradientBoostingRegressor(
                n_estimators=100, learning_rate=0.15, max_depth=2, subsample=0.7, max_features=0.3, random_state=self.seed
            ).fit(features[train], target[train])
            held_out[test] = trees.predict(features[test])
            self._trees.append(trees)
        return held_out

    def _model_name(self) -> str:
        parts = [(weight, name) for weight, name in zip(self._weights, ("ridge", "trees"), strict=False) if weight > 0]
        return " + ".join(f"{weight:.2f} {name}" for weight, name in parts)


def baseline_quality(feature: Floats, values: Floats) -> Quality:
    """The same figures for a straight line through one feature, e.g. MACs: what a predictor has to beat."""
    column = np.asarray(feature, dtype=np.float64).reshape(-1, 1)
    folds = KFold(min(FOLDS, len(values)), shuffle=True, random_state=0)
    predicted = cross_val_predict(LinearRegression(), column, values, cv=folds)
    return _quality(np.asarray(predicted), np.asarray(values, dtype=np.float64), "one feature")


def _leave_one_out(columns: Floats, target: Floats, alpha: float) -> Floats:
    """What a ridge with this alpha predicts for each sample when fitted on all others."""
    n = len(target)
    if n == 1:
        return np.zeros(1)
    hat = np.linalg.solve(columns @ columns.T + alpha * np.eye(n), columns @ columns.T).T + 1 / n
    return np.asarray(target - (target - hat @ target) / np.maximum(1 - np.diag(hat), 1e-9))


def _weights(held_out: Floats, target: Floats) -> Floats:
    """Non-negative, summing to one: a stack that shrinks everything would be a worse ranking, not a better one."""
    weights, _ = nnls(held_out, target)
    total = float(weights.sum())
    return np.asarray(weights / total if total > 0 else np.full(len(weights), 1 / len(weights)))


def _quality(predicted: Floats, values: Floats, model: str) -> Quality:
    constant = np.ptp(predicted) == 0 or np.ptp(values) == 0
    kendall = 0.0 if constant else float(kendalltau(predicted, values).statistic)
    rmse = float(np.sqrt(np.mean((predicted - values) ** 2)))
    size = float(np.abs(values).mean())
    return Quality(kendall, rmse, rmse / size if size > 0 else float("inf"), len(values), model)
