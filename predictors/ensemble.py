"""Stacked regression of one scalar from few samples: three or four models, weighted by cross-validation."""

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
from wb.predictors.features import Floats, Indices, Layout
from wb.predictors.line import Line
from wb.predictors.process import GaussianProcess

Folds = list[tuple[Indices, Indices]]

ALPHAS = np.logspace(-2, 4, 13)
FOLDS = 4
TREES = 100  # of each fold
NAMES = ("ridge", "Gaussian process", "trees", "line")


@dataclass(frozen=True)
class Quality:
    """Cross-validated quality of a predictor: how well it predicts samples that were left out of the fit.

    `kendall` is Kendall's tau between predicted and true values (0 where either is constant). `rmse` has the unit of the
    values. `relative_error` is rmse divided by the mean absolute value. `samples` is the number of values. `model` names the
    weighted models, such as `0.61 ridge + 0.39 trees`.
    """

    kendall: float
    rmse: float
    relative_error: float
    samples: int
    model: str


class Ensemble:
    """Weighted sum of a ridge regression, a Gaussian process and boosted trees, with a standard deviation per prediction.

    Where the space computes traits of its candidates (`wb.core.space.Informed`), a linear model of the traits is the fourth.
    Ridge and process see standardised columns. The weights of the models are non-negative and sum to one; they are fitted
    such that the weighted held-out predictions come closest to the true values. The standard deviation combines the
    held-out error with the disagreement between the trees of different folds.

    Source: Breiman, Stacked regressions, Machine Learning 24 (1996).
    Differs: the trees fitted on each fold are kept and averaged, so that none is fitted twice; the other models are fitted
    again on all samples.
    Limits: below 8 samples the ridge is the only model. The held-out error is an average over all samples, so the standard
    deviation grows little in regions with few of them. The process chooses its settings from all samples, held-out ones too.
    """

    def __init__(self, layout: Layout, seed: int = 0) -> None:
        self.layout = layout
        self.seed = seed

    def fit(self, features: Floats, values: Floats, importance: Floats | None = None) -> Ensemble:
        """Fits one value per row of features. `importance` is the weight of each sample when the models' weights are fitted.

        Raises:
            BadOption: there are fewer than two values, or one of them is not finite.
        """
        if len(values) < 2 or not np.isfinite(values).all():
            raise BadOption(f"expected at least two values, all of them finite; got {np.asarray(values).tolist()}")
        self._centre, self._scale = float(values.mean()), float(values.std()) or 1.0
        target = (values - self._centre) / self._scale
        self._scaler = StandardScaler().fit(features)
        columns = self._columns(features)
        self._ridge = RidgeCV(ALPHAS).fit(columns, target)
        folds = list(KFold(min(FOLDS, len(target)), shuffle=True, random_state=self.seed).split(features))
        held_out = [self._ridge_held_out(columns, target, folds)]
        if len(target) >= 2 * FOLDS:
            self._process = GaussianProcess(self.layout.families).fit(columns, target)
            held_out += [self._process.held_out([test for _, test in folds]), self._fit_trees(features, target, folds)]
            if self.layout.traits:
                held_out.append(self._fit_line(features, target, values, folds))
        found = _weights(np.column_stack(held_out), target, importance)
        predicted = np.column_stack(held_out) @ found
        self._weights = np.append(found, np.zeros(len(NAMES) - len(found)))
        self._error = float(np.sqrt(np.average((predicted - target) ** 2, weights=importance)))
        self._quality = _quality(self._centre + self._scale * predicted, values, _name(self._weights))
        return self

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation per row, in the unit of the fitted values."""
        columns = self._columns(features)
        ridge, process, trees, line = self._weights
        mean = ridge * self._ridge.predict(columns)
        variance = np.full(len(features), self._error**2)
        if process > 0:
            mean = mean + process * self._process.predict(columns)
        if trees > 0:
            votes = trees * np.stack([model.predict(features) for model in self._trees])
            mean = mean + votes.mean(axis=0)
            variance += votes.var(axis=0)
        if line > 0:
            mean = mean + line * self._line.predict(self._traits(features))
        return self._centre + self._scale * mean, self._scale * np.sqrt(variance)

    @property
    def quality(self) -> Quality:
        """The cross-validated quality, computed by `fit`."""
        return self._quality

    def _columns(self, features: Floats) -> Floats:
        return np.asarray(self._scaler.transform(features)) * self.layout.emphasis

    def _traits(self, features: Floats) -> Floats:
        return features[:, features.shape[1] - self.layout.traits :]

    def _fit_line(self, features: Floats, target: Floats, values: Floats, folds: Folds) -> Floats:
        traits, held_out = self._traits(features), np.empty(len(target))
        for train, test in folds:
            held_out[test] = Line().fit(traits[train], target[train], values[train]).predict(traits[test])
        self._line = Line().fit(traits, target, values)
        return held_out

    def _ridge_held_out(self, columns: Floats, target: Floats, folds: Folds) -> Floats:
        held_out = np.empty(len(target))
        for train, test in folds:
            held_out[test] = Ridge(self._ridge.alpha_).fit(columns[train], target[train]).predict(columns[test])
        return held_out

    def _fit_trees(self, features: Floats, target: Floats, folds: Folds) -> Floats:
        """Fits and keeps trees for each fold; returns their predictions for the samples left out of the fold."""
        held_out = np.empty(len(target))
        self._trees: list[GradientBoostingRegressor] = []
        for train, test in folds:
            trees = GradientBoostingRegressor(
                n_estimators=TREES,
                learning_rate=0.12,
                max_depth=3,
                subsample=0.7,
                max_features=0.5,
                random_state=self.seed,
            ).fit(features[train], target[train])
            held_out[test] = trees.predict(features[test])
            self._trees.append(trees)
        return held_out


def baseline_quality(feature: ArrayLike, values: ArrayLike) -> Quality:
    """Cross-validated quality of a straight line through one feature, e.g. MACs: the baseline that a predictor has to beat.

    Raises:
        BadOption: there are fewer than two values, or not one feature for each.
    """
    column, target = np.asarray(feature, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(target) < 2 or column.shape != target.shape:
        raise BadOption(f"expected one feature for each of two values or more; got {len(column)} and {len(target)}")
    folds = KFold(min(FOLDS, len(target)), shuffle=True, random_state=0)
    predicted = cross_val_predict(LinearRegression(), column[:, None], target, cv=folds)
    return _quality(np.asarray(predicted), target, "one feature")


def _weights(held_out: Floats, target: Floats, importance: Floats | None) -> Floats:
    """One weight per model: non-negative least squares, then normalised to sum to one."""
    root = np.sqrt(np.ones(len(target)) if importance is None else importance)
    weights, _ = nnls(held_out * root[:, None], target * root)
    return np.asarray(weights / weights.sum() if weights.any() else np.full(len(weights), 1 / len(weights)))


def _name(weights: Floats) -> str:
    """The models with positive weight, such as `0.61 ridge + 0.39 trees`."""
    parts = zip(weights, NAMES, strict=True)
    return " + ".join(f"{weight:.2f} {model}" for weight, model in parts if weight > 0)


def _quality(predicted: Floats, values: Floats, model: str) -> Quality:
    constant = np.ptp(predicted) == 0 or np.ptp(values) == 0
    kendall = 0.0 if constant else float(kendalltau(predicted, values).statistic)
    rmse = float(np.sqrt(np.mean((predicted - values) ** 2)))
    size = float(np.abs(values).mean())
    return Quality(kendall, rmse, rmse / size if size else np.inf, len(values), model)
