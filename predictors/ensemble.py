"""A regression of one scalar on few samples: ridge and boosted trees, weighted by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
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
    """How well a value is predicted for candidates that were left out of the fit (cross-validated).

    `kendall` is Kendall's tau between predicted and true values (0 where either is constant), `rmse` has the unit of the
    values, `relative_error` is rmse over their mean size, `samples` their number, `model` what predicts.
    """

    kendall: float
    rmse: float
    relative_error: float
    samples: int
    model: str


class Ensemble:
    """Weighted sum of a standardised ridge and gradient boosted trees, with a standard deviation per prediction.

    The weights are non-negative and sum to one; they fit the true values by the predictions for held-out folds. The
    standard deviation combines the held-out error with the disagreement between the trees of different folds.

    Source: Breiman, Stacked regressions, Machine Learning 24 (1996).
    Differs: the trees are those of the folds, averaged, so that none is fitted twice; the ridge is fitted on everything.
    Limits: below 8 samples there are no trees. The held-out error is an average over the samples, so the
        standard deviation grows little where they are few.
    """

    def __init__(self, emphasis: Floats, seed: int = 0) -> None:
        """`emphasis` multiplies the standardised columns for the ridge: the larger, the less a column is shrunk."""
        self.emphasis = emphasis
        self.seed = seed

    def fit(self, features: Floats, values: Floats) -> Ensemble:
        """Fits one value per row of features.

        Raises:
            BadOption: there are fewer than two values, or one of them is not finite.
        """
        if len(values) < 2 or not np.isfinite(values).all():
            raise BadOption(f"expected at least two values, all of them finite; got {np.asarray(values).tolist()}")
        self._centre, self._scale = float(values.mean()), float(values.std()) or 1.0
        target = (values - self._centre) / self._scale
        self._scaler = StandardScaler().fit(features)
        self._ridge = RidgeCV(ALPHAS).fit(self._columns(features), target)
        held_out = self._fit_folds(features, target)
        self._weights = _weights(held_out, target)
        predicted = held_out @ self._weights
        self._error = float(np.sqrt(np.mean((predicted - target) ** 2)))
        name = " + ".join(f"{w:.2f} {model}" for w, model in zip(self._weights, ("ridge", "trees"), strict=True) if w)
        self._quality = _quality(self._centre + self._scale * predicted, values, name)
        return self

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation per row, in the unit of the fitted values."""
        ridge, trees = self._weights
        mean = ridge * self._ridge.predict(self._columns(features))
        variance = np.full(len(features), self._error**2)
        if trees > 0:
            votes = trees * np.stack([model.predict(features) for model in self._trees])
            mean = mean + votes.mean(axis=0)
            variance += votes.var(axis=0)
        return self._centre + self._scale * mean, self._scale * np.sqrt(variance)

    @property
    def quality(self) -> Quality:
        """What cross-validation found in `fit`."""
        return self._quality

    def _columns(self, features: Floats) -> Floats:
        return np.asarray(self._scaler.transform(features)) * self.emphasis

    def _fit_folds(self, features: Floats, target: Floats) -> Floats:
        """Keeps the trees of each fold; returns what ridge and trees predict for the samples they did not see."""
        columns = self._columns(features)
        held_out = np.zeros((len(target), 2))
        self._trees: list[GradientBoostingRegressor] = []
        folds = KFold(min(FOLDS, len(target)), shuffle=True, random_state=self.seed)
        for train, test in folds.split(features):
            ridge = Ridge(self._ridge.alpha_).fit(columns[train], target[train])
            held_out[test, 0] = ridge.predict(columns[test])
            if len(target) < 2 * FOLDS:
                continue
            trees = GradientBoostingRegressor(
                n_estimators=100,
                learning_rate=0.15,
                max_depth=2,
                subsample=0.7,
                max_features=0.3,
                random_state=self.seed,
            ).fit(features[train], target[train])
            held_out[test, 1] = trees.predict(features[test])
            self._trees.append(trees)
        return held_out


def baseline_quality(feature: ArrayLike, values: ArrayLike) -> Quality:
    """The same figures for a straight line through one feature, e.g. MACs: what a predictor has to beat.

    Raises:
        BadOption: there are fewer than two values, or not one feature for each.
    """
    column, target = np.asarray(feature, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(target) < 2 or column.shape != target.shape:
        raise BadOption(f"expected one feature for each of two values or more; got {len(column)} and {len(target)}")
    folds = KFold(min(FOLDS, len(target)), shuffle=True, random_state=0)
    predicted = cross_val_predict(LinearRegression(), column[:, None], target, cv=folds)
    return _quality(np.asarray(predicted), target, "one feature")


def _weights(held_out: Floats, target: Floats) -> Floats:
    """Of ridge and trees; only ridge where there are too few samples to tell."""
    if len(target) < 2 * FOLDS:
        return np.array([1.0, 0.0])
    weights, _ = nnls(held_out, target)
    return np.asarray(weights / weights.sum() if weights.any() else np.full(2, 0.5))


def _quality(predicted: Floats, values: Floats, model: str) -> Quality:
    constant = np.ptp(predicted) == 0 or np.ptp(values) == 0
    kendall = 0.0 if constant else float(kendalltau(predicted, values).statistic)
    rmse = float(np.sqrt(np.mean((predicted - values) ** 2)))
    size = float(np.abs(values).mean())
    return Quality(kendall, rmse, rmse / size if size else np.inf, len(values), model)
