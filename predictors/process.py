"""A Gaussian process whose few settings are chosen from a grid: for smooth functions with interactions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from wb.predictors.features import Floats, Indices

WIDTHS = (0.5, 1.0, 2.0)  # of the radial part, in medians of the distances
SHARES = (0.0, 0.5, 0.9)  # of the linear part
NOISES = (1e-3, 1e-2, 1e-1)
RELEVANCES = (0.1, 0.3, 1.0, 3.0)  # what the columns of a family may be multiplied by
ROUNDS = 2  # how often each family is looked at
JUDGES = 200  # samples that relevances are found with, at most


class GaussianProcess:
    """Mean of a Gaussian process with a linear and a radial kernel, for standardised columns and values.

    `fit` sets `width`, `share` (of the linear kernel) and `noise` such that they maximise the marginal likelihood, for
    which the scale of the kernel has a closed form. With `families`, the number of each column's family, every family of
    columns is multiplied by its `relevance`: one by one each takes what raises the likelihood most, if that is worth a
    parameter (Bayesian information criterion). So what does not matter does not keep samples apart.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 2.25, 2.30 and 5.8;
    relevances 5.10.
    Differs: settings in grids, because gradients of all of them cost more than the fits that they save; relevances of
    families instead of columns, which few samples can tell.
    Limits: work grows with the third power of the samples; a second for some 1,000 of them.
    """

    def __init__(self, families: Indices | None = None) -> None:
        self._families = families
        self.relevance: Floats = np.ones(1)

    def fit(self, columns: Floats, target: Floats) -> GaussianProcess:
        """Fits one value per row; at least two rows."""
        if self._families is not None:
            some = np.arange(len(target))
            if len(target) > JUDGES:
                some = np.sort(np.random.default_rng(0).choice(some, JUDGES, replace=False))
            self.relevance = _relevances(columns[some], target[some], self._families)
        self._columns = self._scaled(columns)
        squares, products = _squares(self._columns, self._columns), self._columns @ self._columns.T
        found = _best(squares, products, target)
        self.width, self.share, self.noise = found.width, found.share, found.noise
        self._median, self._linear_scale = _median(squares), _linear_scale(products)
        kernel = _kernel(squares, products, self.width * self._median**0.5, self.share, self._linear_scale)
        self._factor = cho_factor(kernel + self.noise * np.eye(len(target)), lower=True)
        self._solved = cho_solve(self._factor, target)
        self._target = target
        return self

    def predict(self, columns: Floats) -> Floats:
        """One value per row."""
        scaled = self._scaled(columns)
        squares, products = _squares(scaled, self._columns), scaled @ self._columns.T
        kernel = _kernel(squares, products, self.width * self._median**0.5, self.share, self._linear_scale)
        return np.asarray(kernel @ self._solved)

    def held_out(self, folds: list[Indices]) -> Floats:
        """What the process predicts for each fold if it has not seen it, all else being equal.

        Source: Rasmussen and Williams, equation 5.12, for blocks instead of single samples.
        """
        inverse = cho_solve(self._factor, np.eye(len(self._target)))
        predicted = np.empty(len(self._target))
        for fold in folds:
            predicted[fold] = self._target[fold] - np.linalg.solve(inverse[np.ix_(fold, fold)], self._solved[fold])
        return predicted

    def _scaled(self, columns: Floats) -> Floats:
        return columns if self._families is None else columns * self.relevance[self._families]


@dataclass(frozen=True)
class _Settings:
    likelihood: float  # marginal, logarithmic, doubled, but for a constant
    width: float
    share: float
    noise: float


def _relevances(columns: Floats, target: Floats, families: Indices) -> Floats:
    """One per family; 1 for those that do not matter enough to tell."""
    parts = [columns[:, families == family] for family in range(int(families.max()) + 1)]
    each = [(_squares(part, part), part @ part.T) for part in parts]
    relevance = np.ones(len(parts))
    squares, products = _squares(columns, columns), columns @ columns.T
    found, worth = _best(squares, products, target), float(np.log(len(target)))
    for _ in range(ROUNDS):
        before = relevance.copy()
        for family, (own, inner) in enumerate(each):
            for value in RELEVANCES:
                change = value**2 - relevance[family] ** 2
                if change:
                    tried = squares + change * own, products + change * inner
                    likelihood = _likelihood(*tried, target, found)
                    if likelihood > found.likelihood + worth:
                        (squares, products), relevance[family] = tried, value
                        found = _Settings(likelihood, found.width, found.share, found.noise)
        if (relevance == before).all():
            break
        found = _best(squares, products, target)
    return relevance


def _best(squares: Floats, products: Floats, target: Floats) -> _Settings:
    """The settings of the grid with the largest likelihood."""
    grid = (_Settings(-np.inf, *setting) for setting in itertools.product(WIDTHS, SHARES, NOISES))
    return max(
        (_Settings(_likelihood(squares, products, target, s), s.width, s.share, s.noise) for s in grid),
        key=lambda settings: settings.likelihood,
    )


def _likelihood(squares: Floats, products: Floats, target: Floats, settings: _Settings) -> float:
    n, width = len(target), settings.width * _median(squares) ** 0.5
    kernel = _kernel(squares, products, width, settings.share, _linear_scale(products))
    factor = cho_factor(kernel + settings.noise * np.eye(n), lower=True)
    scale = max(float(target @ cho_solve(factor, target)) / n, 1e-300)
    return float(-n * np.log(scale) - 2 * np.log(np.diag(factor[0])).sum())


def _kernel(squares: Floats, products: Floats, width: float, share: float, linear_scale: float) -> Floats:
    return np.asarray(share * linear_scale * products + (1 - share) * np.exp(-squares / (2 * width**2)))


def _median(squares: Floats) -> float:
    off_diagonal: NDArray[np.bool_] = ~np.eye(len(squares), dtype=bool)
    return float(np.median(squares[off_diagonal])) or 1.0


def _linear_scale(products: Floats) -> float:
    return len(products) / max(float(np.trace(products)), 1e-12)


def _squares(a: Floats, b: Floats) -> Floats:
    """Squared distances between all rows of both."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(squares, 0.0))
